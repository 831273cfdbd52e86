//! RabbitMQ refuses, stops, dies; and a scripted broker that misbehaves in every way.

mod faults;
mod isolation;
mod refusals;
mod restart;
mod tls;
