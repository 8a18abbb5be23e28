-- What lies in the log of a sector that is not wanted is read from the log when the sector is offered first.
DROP TABLE unknown_leases;
