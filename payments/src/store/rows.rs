//! Values in and out of columns: every 256-bit number is text in the database.

use std::str::FromStr;

use alloy_primitives::{Address, B256, U256};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{StoreError, failed};
use crate::price::Wei;

/// A row with the table that it came from, for errors that can be found.
pub(crate) struct Columns<'a> {
    pub(crate) table: &'static str,
    pub(crate) row: &'a AnyRow,
}

impl Columns<'_> {
    pub(crate) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.row.try_get(column).map_err(failed("read a column"))
    }

    pub(crate) fn number(&self, column: &'static str) -> Result<u64, StoreError> {
        let value: i64 = self.row.try_get(column).map_err(failed("read a column"))?;
        u64::try_from(value).map_err(|_| self.bad(column, value.to_string()))
    }

    pub(crate) fn wei(&self, column: &'static str) -> Result<Wei, StoreError> {
        let text = self.text(column)?;
        Wei::from_decimal(&text).ok_or_else(|| self.bad(column, text))
    }

    pub(crate) fn u256(&self, column: &'static str) -> Result<U256, StoreError> {
        self.wei(column).map(|wei| wei.0)
    }

    pub(crate) fn hash(&self, column: &'static str) -> Result<B256, StoreError> {
        let text = self.text(column)?;
        B256::from_str(&text).map_err(|_| self.bad(column, text))
    }

    pub(crate) fn address(&self, column: &'static str) -> Result<Address, StoreError> {
        let text = self.text(column)?;
        Address::from_str(&text).map_err(|_| self.bad(column, text))
    }

    pub(crate) fn bad(&self, column: &'static str, value: String) -> StoreError {
        StoreError::Row { table: self.table, column, value }
    }
}

/// An address as it stands in the database: lower case, so that equal is equal.
pub(crate) fn address_text(address: &Address) -> String {
    format!("0x{}", hex::encode(address.as_slice()))
}
