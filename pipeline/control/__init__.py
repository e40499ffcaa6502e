"""The controller's room: what is to be done, what was done, who leads."""
