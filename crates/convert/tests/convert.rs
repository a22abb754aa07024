//! Whole conversions, from layout to layout and through ports that misbehave.

#[cfg(test)]
#[path = "convert/damage.rs"]
mod damage;
#[cfg(test)]
#[path = "convert/fixture.rs"]
mod fixture;
#[cfg(test)]
#[path = "convert/ports.rs"]
mod ports;
#[cfg(test)]
#[path = "convert/sameness.rs"]
mod sameness;
#[cfg(test)]
#[path = "convert/shapes.rs"]
mod shapes;
