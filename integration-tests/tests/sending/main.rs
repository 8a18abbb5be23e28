//! How the manager sends messages: many sectors in one, errands of people, and crashes at every step.

mod batches;
mod commands;
mod errands;
mod world;
