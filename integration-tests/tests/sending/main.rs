//! How the manager sends messages: many sectors in one, errands of people, through the messager, and in bad weather.

mod batches;
mod commands;
mod dead_in_a_fork;
mod errands;
mod messager;
mod spike_and_book;
mod weather;
mod world;
