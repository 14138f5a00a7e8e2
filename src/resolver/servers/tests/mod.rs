//! The exchanger against scripted servers.

mod broken;
mod families;
mod selection;
mod spoofing;
mod world;
