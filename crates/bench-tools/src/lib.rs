//! What `make bench` is made of: the latency proxy and the driver.
