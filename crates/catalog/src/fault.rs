//! Owns the one table that says what each kind of failure is on every wire: HTTP status, SQLSTATE, exit code.
//!
//! Errors are made everywhere and answered in `connect`, `serve` and the command line. Each crate's error enum
//! maps its variants to a [`Code`]; this table maps a [`Code`] to what a client sees, so that the same failure
//! looks the same on every door.

use std::time::Duration;

/// What a caller can do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong; sending it again gives the same answer.
    Invalid,
    /// A named object does not exist.
    NotFound,
    /// The request collides with what exists or with another request.
    Conflict,
    /// The caller may not do this.
    Denied,
    /// The platform is at a limit; send it again later.
    Busy,
    /// A part that is needed does not answer or refuses; send it again later.
    Unavailable,
    /// Stored bytes are not what was written.
    Corrupt,
    /// A defect of Millstream.
    Internal,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $kind:ident, $http:literal, $sqlstate:literal, $exit:literal;)*) => {
        /// A failure as clients know it: stable name, HTTP status, SQLSTATE and exit code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// Every code, in table order.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];
            /// The stable snake_case name that problem details and logs carry.
            pub const fn name(self) -> &'static str { match self { $(Code::$variant => $name,)* } }
            /// What the caller can do about it.
            pub const fn kind(self) -> Kind { match self { $(Code::$variant => Kind::$kind,)* } }
            /// The HTTP status code.
            pub const fn http_status(self) -> u16 { match self { $(Code::$variant => $http,)* } }
            /// The five-character SQLSTATE, as PostgreSQL's appendix A spells it.
            pub const fn sqlstate(self) -> &'static str { match self { $(Code::$variant => $sqlstate,)* } }
            /// The exit code of a command line call that ends with it.
            pub const fn exit_code(self) -> u8 { match self { $(Code::$variant => $exit,)* } }
        }
    };
}

codes! {
    /// The SQL text does not parse.
    SyntaxError = "syntax_error", Invalid, 400, "42601", 2;
    /// A name is not an identifier that the platform accepts.
    InvalidName = "invalid_name", Invalid, 400, "42602", 2;
    /// No stream, table or view of that name.
    UndefinedObject = "undefined_object", NotFound, 404, "42P01", 3;
    /// No file of that name, or none that matches.
    UndefinedFile = "undefined_file", NotFound, 404, "58P01", 3;
    /// No schema of that name.
    UndefinedSchema = "undefined_schema", NotFound, 404, "3F000", 3;
    /// No column of that name.
    UndefinedColumn = "undefined_column", Invalid, 400, "42703", 2;
    /// No function of that name and arguments.
    UndefinedFunction = "undefined_function", Invalid, 400, "42883", 2;
    /// The statement's columns or options contradict each other.
    InvalidDefinition = "invalid_definition", Invalid, 400, "42P16", 2;
    /// The object of that name is of another kind.
    WrongObjectType = "wrong_object_type", Invalid, 400, "42809", 2;
    /// An object of that name is there already.
    DuplicateObject = "duplicate_object", Conflict, 409, "42P07", 4;
    /// Other objects depend on it.
    DependentObjects = "dependent_objects", Conflict, 409, "2BP01", 4;
    /// A column is named twice.
    DuplicateColumn = "duplicate_column", Invalid, 400, "42701", 2;
    /// Types do not fit together.
    TypeMismatch = "type_mismatch", Invalid, 400, "42804", 2;
    /// A value is not of the type it should be.
    InvalidValue = "invalid_value", Invalid, 400, "22P02", 2;
    /// A file, or a line of it, is not what its format asks for.
    BadFile = "bad_file", Invalid, 400, "22P04", 2;
    /// A number is outside its type's range.
    OutOfRange = "numeric_value_out_of_range", Invalid, 400, "22003", 2;
    /// Something was divided by zero.
    DivisionByZero = "division_by_zero", Invalid, 400, "22012", 2;
    /// Text is not valid UTF-8.
    InvalidEncoding = "invalid_encoding", Invalid, 400, "22021", 2;
    /// A statement would change one row twice.
    CardinalityViolation = "cardinality_violation", Invalid, 400, "21000", 2;
    /// A value is given to a column that is computed.
    GeneratedColumn = "generated_column", Invalid, 400, "428C9", 2;
    /// ON CONFLICT names columns that are no key.
    InvalidConflictTarget = "invalid_conflict_target", Invalid, 400, "42P10", 2;
    /// No constraint of that name.
    UndefinedConstraint = "undefined_constraint", Invalid, 400, "42704", 2;
    /// NULL in a NOT NULL column.
    NotNullViolation = "not_null_violation", Invalid, 400, "23502", 2;
    /// A CHECK constraint does not hold.
    CheckViolation = "check_violation", Invalid, 400, "23514", 2;
    /// A row's primary key is another row's already.
    UniqueViolation = "unique_violation", Conflict, 409, "23505", 4;
    /// Somebody else changed the same rows, or what the statement is about, at the same time; it may do now.
    SerializationFailure = "serialization_failure", Conflict, 409, "40001", 4;
    /// A request, parameter or option is not acceptable.
    InvalidRequest = "invalid_request", Invalid, 400, "22023", 2;
    /// The body's format is not one that is read.
    UnsupportedMediaType = "unsupported_media_type", Invalid, 415, "0A000", 2;
    /// No format that the client accepts can be given.
    NotAcceptable = "not_acceptable", Invalid, 406, "0A000", 2;
    /// The path exists, and takes other methods.
    MethodNotAllowed = "method_not_allowed", Invalid, 405, "0A000", 2;
    /// The body or a row in it is over its limit.
    TooLarge = "too_large", Invalid, 413, "54000", 2;
    /// Nothing does this yet.
    Unsupported = "feature_not_supported", Invalid, 400, "0A000", 2;
    /// The same idempotency key came with other content.
    KeyReused = "idempotency_key_reused", Conflict, 422, "23505", 4;
    /// The caller may not do this.
    Denied = "denied", Denied, 403, "42501", 5;
    /// Too much is under way; try again later.
    Busy = "too_busy", Busy, 429, "53000", 6;
    /// The query needs more memory than its limit.
    OutOfMemory = "out_of_memory", Busy, 503, "53200", 6;
    /// No room on the disk.
    DiskFull = "disk_full", Unavailable, 507, "53100", 7;
    /// Writes are refused after an earlier failure; reads go on.
    WritesRefused = "writes_refused", Unavailable, 503, "25006", 7;
    /// A disk, object store or peer failed.
    IoError = "io_error", Unavailable, 503, "58030", 7;
    /// What is asked for is still being made.
    NotReady = "not_ready", Unavailable, 503, "55000", 7;
    /// The node is stopping.
    ShuttingDown = "shutting_down", Unavailable, 503, "57P01", 7;
    /// The statement ran longer than it may.
    Timeout = "statement_timeout", Unavailable, 504, "57014", 7;
    /// The client asked to stop, or left.
    Cancelled = "query_canceled", Unavailable, 499, "57014", 7;
    /// Stored bytes are damaged.
    DataCorrupted = "data_corrupted", Corrupt, 500, "XX001", 8;
    /// A defect of Millstream.
    Internal = "internal_error", Internal, 500, "XX000", 70;
}

impl Code {
    /// How long a client should wait before it sends the same again, where that helps.
    pub const fn retry_after(self) -> Option<Duration> {
        match self.kind() {
            Kind::Busy => Some(Duration::from_secs(1)),
            Kind::Unavailable => match self {
                Code::Timeout | Code::Cancelled => None,
                _ => Some(Duration::from_secs(5)),
            },
            _ => None,
        }
    }
}

/// An error that knows what it is to a client.
pub trait Fault: std::error::Error {
    /// Its row in the table.
    fn code(&self) -> Code;
    /// What to do about it, where the message does not say.
    fn hint(&self) -> Option<String> {
        None
    }
    /// Where in the SQL text it was found: a 1-based character position.
    fn position(&self) -> Option<usize> {
        None
    }
}
