-- Departures from the three airports of New York, as a feed in the order in which they happened.
CREATE STREAM IF NOT EXISTS flights (
    year            integer NOT NULL,
    month           integer NOT NULL,
    day             integer NOT NULL,
    dep_time        integer,
    sched_dep_time  integer NOT NULL,
    dep_delay       integer,
    arr_time        integer,
    sched_arr_time  integer NOT NULL,
    arr_delay       integer,
    carrier         text NOT NULL,
    flight          integer NOT NULL,
    tailnum         text,
    origin          text NOT NULL CHECK (origin IN ('EWR', 'JFK', 'LGA')),
    dest            text NOT NULL,
    air_time        integer,
    distance        integer CHECK (distance > 0),
    hour            integer NOT NULL,
    minute          integer NOT NULL,
    time_hour       timestamptz NOT NULL,
    event_time      timestamptz NOT NULL,
    WATERMARK FOR event_time AS event_time - INTERVAL '1' MINUTE
) PARTITION BY (origin) WITH (partitions = 3);

CREATE STREAM IF NOT EXISTS airlines (
    carrier  text NOT NULL,
    name     text NOT NULL
);

CREATE STREAM IF NOT EXISTS airports (
    faa    text NOT NULL,
    name   text NOT NULL,
    lat    double precision,
    lon    double precision,
    alt    integer,
    tz     integer,
    dst    text,
    tzone  text
);

CREATE STREAM IF NOT EXISTS planes (
    tailnum       text NOT NULL,
    year          integer,
    type          text,
    manufacturer  text,
    model         text,
    engines       integer,
    seats         integer,
    speed         integer,
    engine        text
);

CREATE STREAM IF NOT EXISTS weather (
    origin      text NOT NULL,
    year        integer NOT NULL,
    month       integer NOT NULL,
    day         integer NOT NULL,
    hour        integer NOT NULL,
    temp        double precision,
    dewp        double precision,
    humid       double precision,
    wind_dir    integer,
    wind_speed  double precision,
    wind_gust   double precision,
    precip      double precision,
    pressure    double precision,
    visib       double precision,
    time_hour   timestamptz NOT NULL
);
