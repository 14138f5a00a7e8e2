//! The program as Postfix meets it: the process, a real socketmap connection, real DNS servers and policy hosts.

mod keys;
mod mta_sts;
mod outages;
