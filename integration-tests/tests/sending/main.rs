//! How the manager sends messages: many sectors in one, errands of people, through the messager, and in bad weather.

mod batches;
mod commands;
mod errands;
mod messager;
mod weather;
mod world;
