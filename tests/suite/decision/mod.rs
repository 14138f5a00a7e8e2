//! Design §4, row by row, through resolver and policy engine on the test world.

mod combination;
mod hosts;
mod silent_hosts;
mod verdicts;
