-- Digests are 32 bytes (SHA-256). Times are milliseconds since 1970, UTC.

CREATE TABLE repositories (
    id             INTEGER PRIMARY KEY,
    name           TEXT    NOT NULL UNIQUE,
    is_accelerated INTEGER NOT NULL DEFAULT 0 CHECK (is_accelerated IN (0, 1)),
    created_ms     INTEGER NOT NULL
) STRICT;

-- Which blobs a repository may read. A blob in the store that no row names is nobody's.
CREATE TABLE repository_blobs (
    repository_id INTEGER NOT NULL REFERENCES repositories (id),
    digest        BLOB    NOT NULL CHECK (length(digest) = 32),
    size          INTEGER NOT NULL CHECK (size >= 0),
    linked_ms     INTEGER NOT NULL,
    PRIMARY KEY (repository_id, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX repository_blobs_by_digest ON repository_blobs (digest);

-- The bodies are in the blob store, under the same digest.
CREATE TABLE manifests (
    repository_id  INTEGER NOT NULL REFERENCES repositories (id),
    digest         BLOB    NOT NULL CHECK (length(digest) = 32),
    media_type     TEXT    NOT NULL,
    size           INTEGER NOT NULL CHECK (size >= 0),
    content_size   INTEGER NOT NULL CHECK (content_size >= 0),
    is_convertible INTEGER NOT NULL CHECK (is_convertible IN (0, 1)),
    subject        BLOB,
    artifact_type  TEXT,
    annotations    TEXT    NOT NULL,
    pushed_ms      INTEGER NOT NULL,
    PRIMARY KEY (repository_id, digest)
) STRICT;

CREATE INDEX manifests_by_subject ON manifests (repository_id, subject) WHERE subject IS NOT NULL;
CREATE INDEX manifests_by_digest ON manifests (digest);

-- A tag with a source was made by the converter from that manifest; any other was pushed.
CREATE TABLE tags (
    repository_id INTEGER NOT NULL REFERENCES repositories (id),
    name          TEXT    NOT NULL,
    digest        BLOB    NOT NULL,
    source        BLOB,
    updated_ms    INTEGER NOT NULL,
    PRIMARY KEY (repository_id, name),
    FOREIGN KEY (repository_id, digest) REFERENCES manifests (repository_id, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX tags_by_digest ON tags (repository_id, digest);

CREATE TABLE tasks (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    repository_id INTEGER NOT NULL REFERENCES repositories (id),
    tag           TEXT    NOT NULL,
    source        BLOB    NOT NULL,
    state         TEXT    NOT NULL CHECK (state IN ('PENDING', 'RUNNING', 'SUCCEEDED', 'FAILED')),
    attempts      INTEGER NOT NULL DEFAULT 0,
    created_ms    INTEGER NOT NULL,
    started_ms    INTEGER,
    finished_ms   INTEGER,
    accelerated   BLOB,
    error         TEXT
) STRICT;

-- At most one task works for a tag.
CREATE UNIQUE INDEX tasks_live ON tasks (repository_id, tag)
    WHERE state IN ('PENDING', 'RUNNING');
CREATE INDEX tasks_by_state ON tasks (state, id);
CREATE INDEX tasks_by_source ON tasks (repository_id, source);
