"""What tools read of the catalog: psql's backslash commands, SQLAlchemy's reflection, DBeaver's queries."""
import pytest

from conftest import run, tool

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")


@pytest.fixture(scope="module")
def shop(node):
    """A schema with tables, views and a stream beside the shared one."""
    for sql in (
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.orders (id bigint, line smallint, status text NOT NULL DEFAULT 'new', amount decimal(12,2) "
        "CHECK (amount >= 0), at timestamp, tags text[], extra json, key uuid, total decimal(14,2) GENERATED ALWAYS AS "
        "(amount * 2) STORED, CONSTRAINT order_key PRIMARY KEY (line, id), CONSTRAINT known CHECK (status <> 'lost'))",
        "COMMENT ON TABLE shop.orders IS 'what was ordered'",
        "COMMENT ON COLUMN shop.orders.amount IS 'in euros'",
        "CREATE TABLE customers (id int PRIMARY KEY, name text)",
        "CREATE VIEW shop.paid AS SELECT id, amount FROM shop.orders WHERE status = 'paid'",
        "CREATE MATERIALIZED VIEW shop.sums AS SELECT status, sum(amount) AS total FROM shop.orders GROUP BY status",
    ):
        node.sql(sql)
    return node


@pytest.fixture(scope="module")
def psql(shop):
    path = tool("psql")

    def ask(sql):
        command = [path, "-X", "-v", "ON_ERROR_STOP=1", "-h", shop.pg_host, "-p", shop.pg_port, "-U", "someone", "-d", "any"]
        status, out, err = run(*command, "-c", sql)
        assert status == 0, f"{sql}: {err}"
        return out

    return ask


def test_psql_describes_a_table_with_its_keys_and_checks(psql):
    out = psql(r"\d+ shop.orders")
    lines = [" ".join(line.replace("|", " ").split()) for line in out.splitlines()]
    assert 'Table "shop.orders"' in lines[0]
    assert any(line.startswith("id bigint not null") for line in lines), out
    assert any(line.startswith("status text not null 'new'") for line in lines), out
    assert any(line.startswith("amount numeric(12,2)") and line.endswith("in euros") for line in lines), out
    assert any(line.startswith("total numeric(14,2) generated always as (amount * 2) stored") for line in lines), out
    assert '"order_key" PRIMARY KEY, btree (line, id)' in lines, out
    for check in ('"known" CHECK (status <> \'lost\')', '"orders_amount_check" CHECK (amount >= 0)'):
        assert check in lines, out


def test_psql_describes_views_with_their_queries(psql):
    out = psql(r"\d+ shop.paid")
    assert 'View "shop.paid"' in out and "SELECT id, amount FROM shop.orders" in out, out
    out = psql(r"\d+ shop.sums")
    assert 'Materialized view "shop.sums"' in out and "numeric" in out, out


def test_psql_lists_what_is_there(psql):
    for command, names in {
        r"\dt *.*": ["orders", "customers", "flights"],
        r"\dt shop.*": ["orders"],
        r"\dv shop.*": ["paid"],
        r"\dm shop.*": ["sums"],
        r"\di *.*": ["order_key", "customers_pkey"],
        r"\dn": ["public", "shop"],
        r"\dn+": ["shop"],
        r"\d": ["customers", "flights"],
        r"\dt+ shop.*": ["what was ordered"],
        r"\l": ["millstream"],
    }.items():
        out = psql(command)
        assert all(name in out for name in names), f"{command}: {out}"
    assert "paid" not in psql(r"\dt shop.*")


@pytest.fixture(scope="module")
def sqlalchemy():
    return pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")


@pytest.fixture(scope="module")
def engine(shop, sqlalchemy):
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://tester@{shop.pg}/millstream")
    yield engine
    engine.dispose()


def test_sqlalchemy_reflects_tables_with_types_and_keys(engine, sqlalchemy):
    from sqlalchemy.dialects import postgresql as pg

    metadata = sqlalchemy.MetaData(schema="shop")
    metadata.reflect(engine, views=True)
    assert set(metadata.tables) == {"shop.orders", "shop.paid", "shop.sums"}
    orders = metadata.tables["shop.orders"]
    assert [column.name for column in orders.primary_key] == ["line", "id"]
    assert orders.primary_key.name == "order_key"
    kinds = {column.name: column.type for column in orders.columns}
    for name, kind in {
        "id": sqlalchemy.BIGINT, "line": sqlalchemy.SMALLINT, "status": sqlalchemy.TEXT, "amount": sqlalchemy.NUMERIC,
        "at": pg.TIMESTAMP, "tags": pg.ARRAY, "extra": pg.JSON, "key": sqlalchemy.UUID, "total": sqlalchemy.NUMERIC,
    }.items():
        assert isinstance(kinds[name], kind), f"{name}: {kinds[name]!r}"
    assert (kinds["amount"].precision, kinds["amount"].scale) == (12, 2)
    assert not orders.c.status.nullable and orders.c.amount.nullable
    assert orders.c.status.server_default.arg.text == "'new'"
    assert orders.c.total.computed.sqltext.text == "amount * 2"
    assert (orders.comment, orders.c.amount.comment) == ("what was ordered", "in euros")
    assert [c.name for c in metadata.tables["shop.paid"].columns] == ["id", "amount"]


def test_sqlalchemy_inspects_constraints(engine, sqlalchemy):
    inspector = sqlalchemy.inspect(engine)
    assert {"public", "shop"} <= set(inspector.get_schema_names())
    assert set(inspector.get_table_names("shop")) == {"orders"}
    assert inspector.get_view_names("shop") == ["paid"]
    assert inspector.get_materialized_view_names("shop") == ["sums"]
    key = inspector.get_pk_constraint("orders", "shop")
    assert (key["name"], key["constrained_columns"]) == ("order_key", ["line", "id"])
    checks = {check["name"]: check["sqltext"] for check in inspector.get_check_constraints("orders", "shop")}
    assert checks == {"known": "status <> 'lost'", "orders_amount_check": "amount >= 0"}
    assert inspector.get_foreign_keys("orders", "shop") == []
    assert inspector.get_unique_constraints("orders", "shop") == []
    assert inspector.get_indexes("orders", "shop") == []
    assert inspector.get_pk_constraint("customers")["constrained_columns"] == ["id"]
    assert "SELECT id, amount" in inspector.get_view_definition("paid", "shop")
    assert inspector.has_table("orders", "shop") and not inspector.has_table("orders")


def test_sqlalchemy_makes_what_it_reflects(engine, sqlalchemy):
    metadata = sqlalchemy.MetaData(schema="shop")
    made = sqlalchemy.Table(
        "made", metadata, sqlalchemy.Column("a", sqlalchemy.Integer, primary_key=True, autoincrement=False),
        sqlalchemy.Column("b", sqlalchemy.Text, nullable=False), sqlalchemy.CheckConstraint("a > 0", name="positive"),
    )
    metadata.create_all(engine)
    try:
        again = sqlalchemy.Table("made", sqlalchemy.MetaData(), schema="shop", autoload_with=engine)
        assert [column.name for column in again.primary_key] == ["a"]
        assert not again.c.b.nullable
        assert [c.name for c in again.constraints if isinstance(c, sqlalchemy.CheckConstraint)] == ["positive"]
    finally:
        made.drop(engine)


# What DBeaver asks when it connects and opens a schema and a table, in its words.
DBEAVER = {
    "session": "SELECT current_schema(), session_user",
    "path": "SHOW search_path",
    "settings": "SELECT current_setting('server_version_num')",
    "database": "SELECT db.oid, db.* FROM pg_catalog.pg_database db WHERE datname = 'millstream'",
    "databases": "SELECT db.oid, db.* FROM pg_catalog.pg_database db WHERE 1 = 1 AND NOT datistemplate AND datallowconn ORDER BY db.datname",
    "types": "SELECT t.oid, t.*, c.relkind, format_type(nullif(t.typbasetype, 0), t.typtypmod) as base_type_name, d.description "
             "FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_type et ON et.oid = t.typelem "
             "LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid = t.typrelid "
             "LEFT OUTER JOIN pg_catalog.pg_description d ON t.oid = d.objoid "
             "WHERE t.typname IS NOT NULL AND (c.relkind IS NULL OR c.relkind = 'c') AND (et.typcategory IS NULL OR et.typcategory <> 'C')",
    "schemas": "SELECT n.oid, n.*, d.description FROM pg_catalog.pg_namespace n "
               "LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = n.oid AND d.objsubid = 0 AND d.classoid = 'pg_namespace'::regclass "
               "ORDER BY nspname",
    "relations": "SELECT c.oid, c.*, d.description, pg_catalog.pg_get_expr(c.relpartbound, c.oid) as partition_expr, "
                 "pg_catalog.pg_get_partkeydef(c.oid) as partition_key FROM pg_catalog.pg_class c "
                 "LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass "
                 "WHERE c.relnamespace = {schema} AND c.relkind not in ('i', 'I', 'c')",
    "columns": "SELECT c.relname, a.*, pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true) as def_value, dsc.description "
               "FROM pg_catalog.pg_attribute a INNER JOIN pg_catalog.pg_class c ON (a.attrelid = c.oid) "
               "LEFT OUTER JOIN pg_catalog.pg_attrdef ad ON (a.attrelid = ad.adrelid AND a.attnum = ad.adnum) "
               "LEFT OUTER JOIN pg_catalog.pg_description dsc ON (c.oid = dsc.objoid AND a.attnum = dsc.objsubid) "
               "WHERE NOT a.attisdropped AND c.oid = {table} ORDER BY a.attnum",
    "constraints": "SELECT c.oid, c.*, t.relname as tabrelname, rt.relnamespace as refnamespace, d.description, "
                   "case when c.contype = 'c' then \"substring\"(pg_get_constraintdef(c.oid), 7) else null end consrc_copy "
                   "FROM pg_catalog.pg_constraint c INNER JOIN pg_catalog.pg_class t ON t.oid = c.conrelid "
                   "LEFT OUTER JOIN pg_catalog.pg_class rt ON rt.oid = c.confrelid "
                   "LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_constraint'::regclass "
                   "WHERE c.conrelid = {table} ORDER BY c.oid",
    "indexes": "SELECT i.*, i.indkey as keys, c.relname, c.relnamespace, c.relam, c.reltablespace, tc.relname as tabrelname, "
               "dsc.description, pg_catalog.pg_get_expr(i.indpred, i.indrelid) as pred_expr, "
               "pg_catalog.pg_get_expr(i.indexprs, i.indrelid, true) as expr, pg_catalog.pg_relation_size(i.indexrelid) as index_rel_size, "
               "pg_catalog.pg_stat_get_numscans(i.indexrelid) as index_num_scans FROM pg_catalog.pg_index i "
               "INNER JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid INNER JOIN pg_catalog.pg_class tc ON tc.oid = i.indrelid "
               "LEFT OUTER JOIN pg_catalog.pg_description dsc ON i.indexrelid = dsc.objoid WHERE i.indrelid = {table} ORDER BY c.relname",
    "references": "SELECT DISTINCT connamespace FROM pg_catalog.pg_constraint WHERE confrelid = {table}",
    "sizes": "SELECT c.oid, pg_catalog.pg_total_relation_size(c.oid) as total_rel_size, pg_catalog.pg_relation_size(c.oid) as rel_size "
             "FROM pg_class c WHERE c.relnamespace = {schema}",
    "view": "SELECT pg_catalog.pg_get_viewdef({view}, true)",
    "roles": "SELECT a.oid, a.*, pd.description FROM pg_catalog.pg_roles a "
             "LEFT JOIN pg_catalog.pg_shdescription pd ON a.oid = pd.objoid ORDER BY a.rolname",
    "inherits": "SELECT i.*, c.relnamespace FROM pg_catalog.pg_inherits i, pg_catalog.pg_class c "
                "WHERE i.inhrelid = {table} AND c.oid = i.inhparent ORDER BY i.inhseqno",
}


def test_dbeavers_queries_find_schemas_tables_columns_and_keys(shop):
    with psycopg.connect(shop.dsn, autocommit=True) as connection:
        def ask(name, **numbers):
            sql = DBEAVER[name].format(**numbers) if numbers else DBEAVER[name]
            try:
                cursor = connection.execute(sql)
            except psycopg.Error as error:
                raise AssertionError(f"{name}: {error}") from error
            columns = [column.name for column in cursor.description]
            return [dict(zip(columns, row)) for row in cursor.fetchall()]

        for name in ("session", "path", "settings", "database", "databases", "types", "roles"):
            assert ask(name), name
        schemas = {row["nspname"]: row["oid"] for row in ask("schemas")}
        assert {"public", "shop", "pg_catalog", "information_schema"} <= set(schemas)
        relations = {row["relname"]: row for row in ask("relations", schema=schemas["shop"])}
        assert {name: row["relkind"] for name, row in relations.items()} == {"orders": "r", "paid": "v", "sums": "m"}
        assert relations["orders"]["description"] == "what was ordered"
        table = relations["orders"]["oid"]
        columns = ask("columns", table=table)
        assert [row["attname"] for row in columns][:4] == ["id", "line", "status", "amount"]
        assert {row["attname"]: row["def_value"] for row in columns if row["def_value"]} == {"status": "'new'", "total": "amount * 2"}
        constraints = {row["conname"]: row for row in ask("constraints", table=table)}
        assert {name: row["contype"] for name, row in constraints.items()} == {
            "order_key": "p", "known": "c", "orders_amount_check": "c",
        }
        assert list(constraints["order_key"]["conkey"]) == [2, 1]
        [index] = ask("indexes", table=table)
        assert (index["relname"], index["indisprimary"], list(index["keys"])) == ("order_key", True, [2, 1])
        assert "SELECT id, amount" in next(iter(ask("view", view=relations["paid"]["oid"])[0].values()))
        for name, numbers in {"references": {"table": table}, "sizes": {"schema": schemas["shop"]}, "inherits": {"table": table}}.items():
            ask(name, **numbers)


def test_information_schema_tells_of_keys(shop):
    with psycopg.connect(shop.dsn, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT k.column_name FROM information_schema.table_constraints t JOIN information_schema.key_column_usage k "
            "USING (constraint_schema, constraint_name) WHERE t.table_name = 'orders' AND t.constraint_type = 'PRIMARY KEY' "
            "ORDER BY k.ordinal_position"
        ).fetchall()
        assert rows == [("line",), ("id",)]
