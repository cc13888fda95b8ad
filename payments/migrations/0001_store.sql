-- One schema for SQLite and PostgreSQL: whole numbers as BIGINT, amounts and 256-bit numbers as
-- decimal TEXT, hashes and addresses as 0x TEXT, times as milliseconds since 1970.
CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);

CREATE TABLE winners (
    hash TEXT NOT NULL PRIMARY KEY,
    recipient TEXT NOT NULL,
    sender TEXT NOT NULL,
    face_value TEXT NOT NULL,
    win_prob TEXT NOT NULL,
    sender_nonce BIGINT NOT NULL,
    recipient_rand_hash TEXT NOT NULL,
    recipient_rand TEXT NOT NULL,
    creation_round BIGINT NOT NULL,
    creation_hash TEXT NOT NULL,
    signature TEXT NOT NULL,
    session TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    seal_block BIGINT NOT NULL,
    last_round BIGINT NOT NULL,
    credited BIGINT NOT NULL,
    state TEXT NOT NULL,
    amount TEXT NOT NULL,
    reason TEXT NOT NULL,
    stored_ms BIGINT NOT NULL,
    closed_ms BIGINT NOT NULL
);
CREATE INDEX winners_by_state ON winners (state, last_round);

CREATE TABLE seals (
    recipient_rand_hash TEXT NOT NULL PRIMARY KEY,
    sealed_ms BIGINT NOT NULL
);

CREATE TABLE budget_blocks (
    serial BIGINT NOT NULL PRIMARY KEY,
    session TEXT NOT NULL,
    amount TEXT NOT NULL,
    taken_ms BIGINT NOT NULL
);
CREATE TABLE sums (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE session_records (
    session TEXT NOT NULL,
    role TEXT NOT NULL,
    counters TEXT NOT NULL,
    updated_ms BIGINT NOT NULL,
    PRIMARY KEY (session, role)
);
