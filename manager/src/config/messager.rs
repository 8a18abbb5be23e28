//! `[chain.messager]`: Venus' messager, if that sends the messages.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::Chain;
use crate::chain::{Endpoint, Error, Messager as Client, RpcClient, messager::Overestimation};

/// The `[chain.messager]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Messager {
    /// Its endpoint: `http://host:port`, or as damocles' configuration has it, `/ip4/…/tcp/…`.
    pub url: String,
    /// A file with the token of a user with the permission `write`, to whom the senders are bound.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// By how much it multiplies its estimate of the gas. 0: as it is set at the messager.
    #[serde(default)]
    pub gas_over_estimation: f64,
    /// By how much it multiplies its estimate of the premium. 0: as it is set at the messager.
    #[serde(default)]
    pub gas_over_premium: f64,
}

impl Chain {
    /// The messager's endpoint, if one is configured.
    pub fn messager_endpoint(&self) -> Option<Endpoint> {
        let messager = self.messager.as_ref()?;
        let mut endpoint = Endpoint::of_messager(&messager.url, messager.token_file.clone());
        endpoint.timeout = Duration::from_secs(self.timeout_secs);
        Some(endpoint)
    }

    /// The messager's client, if one is configured. Does not connect.
    pub fn messager_client(&self) -> Result<Option<Client>, Error> {
        let (Some(endpoint), Some(messager)) = (self.messager_endpoint(), &self.messager) else { return Ok(None) };
        // The token is read at each call anyway.
        let client = RpcClient::with_any_token(endpoint)?;
        Ok(Some(Client::new(client, messager.overestimation())))
    }

    /// Checks the messager's table. Returns the field and what is wrong with it.
    pub(super) fn check_messager(&self) -> Result<(), (String, String)> {
        let (Some(endpoint), Some(messager)) = (self.messager_endpoint(), &self.messager) else { return Ok(()) };
        let refuse = |field: &str, problem: String| Err((format!("chain.messager.{field}"), problem));
        match endpoint.check() {
            Err(Error::BadUrl { url, reason }) => return refuse("url", format!("`{url}` cannot be used: {reason}")),
            Err(error) => return refuse("url", error.to_string()),
            Ok(()) => {}
        }
        for (field, factor) in
            [("gas_over_estimation", messager.gas_over_estimation), ("gas_over_premium", messager.gas_over_premium)]
        {
            if factor != 0.0 && !(1.0..=10.0).contains(&factor) {
                return refuse(field, format!("{factor} is neither 0, for what is set at the messager, nor 1 to 10"));
            }
        }
        Ok(())
    }
}

impl Messager {
    /// The factors of its estimates.
    pub const fn overestimation(&self) -> Overestimation {
        Overestimation { gas: self.gas_over_estimation, premium: self.gas_over_premium }
    }
}
