//! Signs errands: what they say was fixed when a person or a policy asked for them.

use fvm_ipld_encoding::RawBytes;
use fvm_shared::{address::Address, econ::TokenAmount, message::Message as Unsigned};
use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, workflows::Input};

use super::signing::affordable;
use crate::{
    chain::{
        Transport,
        json::{parse_address, parse_tokens},
        message,
    },
    drive::{DriveError, Driver, View},
    store::{Errand, Message, MessageKind},
};

impl<T: Transport + 'static> Driver<T> {
    /// Signs and pushes an errand, or ends it if the chain refuses it.
    pub(in crate::drive) async fn sign_errand(&self, view: &View, message: &Message) -> Result<(), DriveError> {
        let Some(errand) = message.errand else { return Ok(()) };
        let Some(errand) = self.store.errand(errand).await? else { return Ok(()) };
        let unsigned = match self.errand_of(view, &errand).await? {
            Ok(unsigned) => unsigned,
            Err(problem) => return self.refuse(message, None, ErrorCode::ERRAND_REFUSED, problem).await,
        };
        let gas = match self.node.gas_estimate(&unsigned, &view.head.key).await {
            Ok(gas) => gas,
            Err(error) => match error.exit_code().filter(|_| !error.is_not_enough_funds()) {
                Some(exit) => {
                    let code = ErrorCode::ERRAND_REFUSED;
                    return self.refuse(message, Some(exit.value()), code, error.to_string()).await;
                }
                None => return Err(self.waits_for(message, &unsigned.from, error)),
            },
        };
        // A message that is of no use after an epoch may cost more the closer that is.
        let left = errand.asked.until_epoch().map(|until| until - view.head.height);
        let limit = self.config.fee_limit(message.miner, MessageKind::Errand, 1, left);
        let gas = affordable(view, message.key.clone(), gas, &limit)?;
        self.check_funds(view, &message.key, &unsigned, &gas).await?;
        let sized = message::with_gas_and_nonce(unsigned.clone(), gas.clone(), u64::MAX);
        message::check_before_signing(&sized, &limit.amount())?;
        let ready = self.make_ready(view, &[message], unsigned, gas).await?;
        let mut tx = self.store.begin_as(self.epoch).await?;
        let stored = self.store_ready(&mut tx, view, &[message], ready, &limit).await?;
        tx.commit().await?;
        self.send(view, std::slice::from_ref(message), stored).await
    }

    /// The message of an errand without nonce and fees, or why there can be none.
    async fn errand_of(&self, view: &View, errand: &Errand) -> Result<Result<Unsigned, String>, DriveError> {
        let asked = &errand.asked;
        let read = || -> Result<(Address, Address, TokenAmount), String> {
            let address = |text: &str| parse_address(text).map(|address| address.0).map_err(|e| format!("{text}: {e}"));
            Ok((address(&asked.sender)?, address(&asked.receiver)?, parse_tokens(&asked.value_atto)?))
        };
        let (sender, to, value) = match read() {
            Ok(read) => read,
            Err(problem) => return Ok(Err(problem)),
        };
        let from = self.node.account_key(&sender, &view.head.key).await?;
        let params = RawBytes::new(asked.params.clone());
        Ok(message::of_errand(from, to, asked.method, params, value).map_err(|error| error.to_string()))
    }

    async fn refuse(
        &self,
        message: &Message,
        exit: Option<u32>,
        code: ErrorCode,
        text: String,
    ) -> Result<(), DriveError> {
        let report = ErrorReport::new(ErrorClass::Perm, code, text);
        self.give_up(message, exit, &report, Input::Refused(report.clone())).await
    }
}
