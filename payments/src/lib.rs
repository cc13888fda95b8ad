//! Prices, tickets, balances and the ticket store
