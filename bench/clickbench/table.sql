CREATE TABLE hits (
    watch_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    ip INTEGER NOT NULL,
    counter INTEGER NOT NULL,
    region INTEGER NOT NULL,
    advertiser INTEGER NOT NULL,
    width INTEGER NOT NULL,
    refresh INTEGER NOT NULL,
    phrase TEXT NOT NULL,
    url TEXT NOT NULL,
    event_time TIMESTAMP NOT NULL,
    event_date DATE NOT NULL
)
