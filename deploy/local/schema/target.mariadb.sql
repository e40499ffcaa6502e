-- The application's tables after the move, designed anew: other names, other types, parts where there was a whole.

CREATE TABLE airline (
    code varchar(2) PRIMARY KEY,
    name varchar(80) NOT NULL
);

CREATE TABLE airport (
    code varchar(4) PRIMARY KEY,
    name varchar(100) NOT NULL,
    latitude double NOT NULL,
    longitude double NOT NULL,
    altitude_ft int NOT NULL,
    utc_offset smallint NOT NULL,
    daylight_saving enum('united-states', 'none', 'unknown') NOT NULL,
    time_zone varchar(40)
);

CREATE TABLE aircraft (
    tail_number varchar(8) PRIMARY KEY,
    built smallint,
    category varchar(40),
    manufacturer varchar(60),
    model varchar(40),
    engines smallint,
    seats smallint,
    engine varchar(20)
);

CREATE TABLE weather (
    origin varchar(4) NOT NULL,
    time_hour timestamp NOT NULL,
    temp double,
    dewp double,
    humid double,
    wind_dir smallint,
    wind_speed double,
    wind_gust double,
    precip double,
    pressure double,
    visib double,
    PRIMARY KEY (origin, time_hour),
    FOREIGN KEY (origin) REFERENCES airport (code)
);

CREATE TABLE flight (
    id bigint AUTO_INCREMENT PRIMARY KEY,
    flown_on date NOT NULL,
    airline_code varchar(2) NOT NULL,
    flight_number varchar(8) NOT NULL,
    route varchar(9) NOT NULL,
    origin varchar(4) NOT NULL,
    destination varchar(4) NOT NULL,
    tail_number varchar(8),
    sched_dep time NOT NULL,
    dep_time time,
    dep_delay smallint,
    sched_arr time NOT NULL,
    arr_time time,
    arr_delay smallint,
    air_time smallint,
    miles int NOT NULL,
    time_hour timestamp NOT NULL,
    seats_sold int NOT NULL DEFAULT 0,
    updated_at timestamp(6) NOT NULL DEFAULT current_timestamp(6),
    UNIQUE (flown_on, airline_code, flight_number, origin),
    FOREIGN KEY (airline_code) REFERENCES airline (code),
    FOREIGN KEY (origin) REFERENCES airport (code),
    FOREIGN KEY (destination) REFERENCES airport (code),
    FOREIGN KEY (tail_number) REFERENCES aircraft (tail_number)
);

CREATE TABLE customer (
    id bigint AUTO_INCREMENT PRIMARY KEY,
    first_name varchar(60) NOT NULL,
    last_name varchar(60) NOT NULL,
    email varchar(120) NOT NULL UNIQUE,
    state enum('active', 'inactive') NOT NULL DEFAULT 'active',
    points bigint NOT NULL DEFAULT 0,
    born date,
    newsletter boolean NOT NULL DEFAULT false,
    created_at timestamp(6) NOT NULL DEFAULT current_timestamp(6)
);

CREATE TABLE reservation (
    id bigint AUTO_INCREMENT PRIMARY KEY,
    reference varchar(8) NOT NULL UNIQUE,
    customer_id bigint NOT NULL,
    flight_id bigint NOT NULL,
    price decimal(12, 2) NOT NULL,
    currency char(3) NOT NULL,
    booked_at timestamp(6) NOT NULL,
    itinerary json NOT NULL,
    notes mediumtext,
    FOREIGN KEY (customer_id) REFERENCES customer (id),
    FOREIGN KEY (flight_id) REFERENCES flight (id)
);

CREATE TABLE payment (
    id bigint AUTO_INCREMENT PRIMARY KEY,
    reservation_id bigint NOT NULL,
    amount decimal(12, 2) NOT NULL,
    method varchar(10) NOT NULL,
    card_number varchar(19),
    card_shown varchar(19),
    paid_at timestamp(6) NOT NULL,
    FOREIGN KEY (reservation_id) REFERENCES reservation (id)
);

CREATE TABLE seat_assignment (
    flight_id bigint NOT NULL,
    seat varchar(5) NOT NULL,
    reservation_id bigint UNIQUE,
    PRIMARY KEY (flight_id, seat),
    FOREIGN KEY (flight_id) REFERENCES flight (id),
    FOREIGN KEY (reservation_id) REFERENCES reservation (id)
);

CREATE TABLE request_log (
    token char(36) PRIMARY KEY,
    made_by smallint NOT NULL,
    made_at timestamp(6) NOT NULL
);
