//! The exchanger against scripted servers.

mod broken;
mod selection;
mod spoofing;
mod world;
