"""What the cases share: one manager of the old system's, and ways past it into the database.

LEGACY_URL names a migrated database. Where LEGACY_CONNECTIONS is 1, the engine has one session, and
what many clients do at once is done with what each of them had read.
"""

import itertools
import os

from sqlalchemy import event, text

from manager import DatabaseManager

URL = os.environ["LEGACY_URL"]
ALONE = os.environ.get("LEGACY_CONNECTIONS") == "1"
NAMES = (f"{os.getpid()}-{n}" for n in itertools.count())


def connect_manager(connections=5):
    manager = DatabaseManager(URL, pool_size=1 if ALONE else connections, max_overflow=0)
    if ALONE:
        # This engine takes no options at its start.
        @event.listens_for(manager.engine, "connect")
        def search_path(connection, _):
            with connection.cursor() as cursor:
                cursor.execute("SET search_path = legacy, public")
            connection.commit()
    return manager


DB = connect_manager()


def fresh(prefix="module"):
    return f"{prefix}-{next(NAMES)}"


def sql(statement, **values):
    with DB.engine.begin() as connection:
        result = connection.execute(text(statement), values)
        return result.fetchall() if result.returns_rows else result.rowcount


def one(statement, **values):
    return sql(statement, **values)[0][0]
