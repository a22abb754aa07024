//! Whole conversions, from layout to layout and through ports that misbehave.

#![expect(missing_docs, reason = "a test program")]

#[path = "convert/damage.rs"]
mod damage;
#[path = "convert/fixture.rs"]
mod fixture;
#[path = "convert/ports.rs"]
mod ports;
#[path = "convert/sameness.rs"]
mod sameness;
#[path = "convert/shapes.rs"]
mod shapes;
