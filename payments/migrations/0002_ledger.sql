-- The local settlement ledger, in the words of the broker contract.
CREATE TABLE ledger_meta (
    name TEXT NOT NULL PRIMARY KEY,
    ledger_id TEXT NOT NULL,
    genesis_ms BIGINT NOT NULL,
    block_ms BIGINT NOT NULL,
    round_length BIGINT NOT NULL,
    unlock_period BIGINT NOT NULL,
    validity_period BIGINT NOT NULL,
    entries BIGINT NOT NULL
);

CREATE TABLE ledger_senders (
    address TEXT NOT NULL PRIMARY KEY,
    deposit TEXT NOT NULL,
    reserve TEXT NOT NULL,
    withdraw_round BIGINT NOT NULL
);

CREATE TABLE ledger_recipients (
    address TEXT NOT NULL PRIMARY KEY,
    active BIGINT NOT NULL,
    fees TEXT NOT NULL
);

CREATE TABLE ledger_claims (
    holder TEXT NOT NULL,
    round BIGINT NOT NULL,
    claimant TEXT NOT NULL,
    amount TEXT NOT NULL,
    PRIMARY KEY (holder, round, claimant)
);

CREATE TABLE ledger_used (
    ticket_hash TEXT NOT NULL PRIMARY KEY,
    amount TEXT NOT NULL,
    entry BIGINT NOT NULL
);

CREATE TABLE ledger_entries (
    entry BIGINT NOT NULL PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    round BIGINT NOT NULL,
    kind TEXT NOT NULL,
    sender TEXT NOT NULL,
    recipient TEXT NOT NULL,
    deposit TEXT NOT NULL,
    reserve TEXT NOT NULL,
    reference TEXT NOT NULL
);
CREATE INDEX ledger_entries_of_sender ON ledger_entries (sender, entry);
CREATE INDEX ledger_entries_of_recipient ON ledger_entries (recipient, entry);
