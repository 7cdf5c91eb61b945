/*
 * Table-valued functions by one small module: xFilter lets a function fill a
 * grid of cells, and the cursor walks it. Arguments are hidden columns behind
 * the visible ones.
 */
#include "ext/sqlite/tablefunc.h"

#include <stdlib.h>
#include <string.h>

#include "ext/sqlite/args.h"
#include "ext/sqlite/command.h"
#include "ext/sqlite/maintenance.h"
#include "ext/sqlite/vtab.h"

SQLITE_EXTENSION_INIT3

#define GRID_COLUMNS 5
#define MAX_ARGUMENTS 3

typedef struct grid_cell {
  int type; /* SQLITE_TEXT, INTEGER or FLOAT; 0 is NULL */
  sqlite3_int64 number;
  double real;
  char *text; /* owned */
} grid_cell;

/* Rows being gathered. rc is sticky: after a failure, adding does nothing. */
typedef struct grid {
  grid_cell (*rows)[GRID_COLUMNS];
  size_t count;
  size_t capacity;
  int column; /* the next cell of the last row */
  int rc;
  char *message; /* why rc is what it is, or NULL */
} grid;

/* argv has an entry for each argument, NULL where none was given. */
typedef void (*tablefunc_fill)(grid *grid, skv_sql_conn *conn,
                               sqlite3_value **argv);

typedef struct tablefunc_row {
  const char *name;
  const char *declaration;
  int columns;   /* visible ones */
  int arguments; /* hidden ones */
  int required;  /* of them, these must be given */
  tablefunc_fill fill;
} tablefunc_row;

typedef struct tablefunc_aux {
  const tablefunc_row *row;
  skv_sql_conn *conn; /* with a reference */
} tablefunc_aux;

typedef struct tablefunc_table {
  sqlite3_vtab base;
  const tablefunc_aux *aux;
} tablefunc_table;

typedef struct tablefunc_cursor {
  sqlite3_vtab_cursor base;
  grid grid;
  size_t at;
} tablefunc_cursor;

/* ---- The grid ---------------------------------------------------------- */

static void grid_clear(grid *g) {
  for (size_t i = 0; i < g->count; i++) {
    for (int j = 0; j < GRID_COLUMNS; j++) sqlite3_free(g->rows[i][j].text);
  }
  sqlite3_free(g->rows);
  sqlite3_free(g->message);
  memset(g, 0, sizeof *g);
}

static void grid_new_row(grid *g) {
  if (g->rc != SQLITE_OK) return;
  if (g->count == g->capacity) {
    size_t capacity = g->capacity * 2 + 16;
    void *rows = sqlite3_realloc64(g->rows, capacity * sizeof g->rows[0]);
    if (rows == NULL) {
      g->rc = SQLITE_NOMEM;
      return;
    }
    g->rows = rows;
    g->capacity = capacity;
  }
  memset(g->rows[g->count++], 0, sizeof g->rows[0]);
  g->column = 0;
}

static grid_cell *grid_cell_next(grid *g) {
  return &g->rows[g->count - 1][g->column++];
}

static void grid_text(grid *g, const char *text) {
  grid_cell *cell;
  if (g->rc != SQLITE_OK) return;
  cell = grid_cell_next(g);
  cell->type = SQLITE_TEXT;
  cell->text = sqlite3_mprintf("%s", text);
  if (cell->text == NULL) g->rc = SQLITE_NOMEM;
}

static void grid_integer(grid *g, sqlite3_int64 number) {
  grid_cell *cell;
  if (g->rc != SQLITE_OK) return;
  cell = grid_cell_next(g);
  cell->type = SQLITE_INTEGER;
  cell->number = number;
}

/* A whole number is shown as one. */
static void grid_real(grid *g, double real) {
  grid_cell *cell;
  if (real > -9e15 && real < 9e15 && (double)(sqlite3_int64)real == real) {
    grid_integer(g, (sqlite3_int64)real);
    return;
  }
  if (g->rc != SQLITE_OK) return;
  cell = grid_cell_next(g);
  cell->type = SQLITE_FLOAT;
  cell->real = real;
}

static void grid_null(grid *g) {
  if (g->rc == SQLITE_OK) grid_cell_next(g);
}

static void grid_fail(grid *g, int rc, char *message) {
  if (g->rc != SQLITE_OK) {
    sqlite3_free(message);
    return;
  }
  g->rc = rc;
  g->message = message;
}

/* ---- What the functions say -------------------------------------------- */

static void fill_options(grid *g, skv_sql_conn *conn, sqlite3_value **argv) {
  const skv_sql_option_doc *doc;
  (void)conn;
  (void)argv;
  for (size_t i = 0; (doc = skv_sql_option_at(i)) != NULL; i++) {
    grid_new_row(g);
    grid_text(g, doc->name);
    grid_text(g, doc->accepts);
    grid_text(g, doc->initial);
    grid_text(g, doc->scope);
    grid_text(g, doc->help);
  }
}

static void fill_commands(grid *g, skv_sql_conn *conn, sqlite3_value **argv) {
  const skv_sql_command_doc *doc;
  (void)conn;
  (void)argv;
  for (size_t i = 0; (doc = skv_sql_command_at(i)) != NULL; i++) {
    grid_new_row(g);
    grid_text(g, doc->name);
    grid_text(g, doc->arguments);
    grid_integer(g, doc->is_transactional);
    grid_text(g, doc->help);
  }
}

static skv_sql_vtab *fill_find_table(grid *g, skv_sql_conn *conn,
                                     sqlite3_value *name) {
  const char *text = (const char *)sqlite3_value_text(name);
  char *message = NULL;
  int rc = SQLITE_OK;
  skv_sql_vtab *vtab =
      skv_sql_vtab_find(conn, text != NULL ? text : "", &rc, &message);
  if (vtab == NULL) grid_fail(g, rc, message);
  return vtab;
}

static int stats_row(void *arg, const char *name, double value,
                     const char *unit, const char *help) {
  grid *g = arg;
  grid_new_row(g);
  grid_text(g, name);
  grid_real(g, value);
  grid_text(g, unit);
  grid_text(g, help);
  return g->rc != SQLITE_OK;
}

static void fill_stats(grid *g, skv_sql_conn *conn, sqlite3_value **argv) {
  stratakv_error err = {0, ""};
  skv_sql_vtab *vtab = fill_find_table(g, conn, argv[0]);
  int rc;
  if (vtab == NULL) return;
  rc = stratakv_stats(skv_sql_context_store(vtab->context), stats_row, g, &err);
  if (rc != STRATAKV_OK) {
    grid_fail(g, skv_sql_code(rc), skv_sql_engine_message(rc, &err));
  }
}

/* Rows are gathered before the first is shown, so there is a most of them; the
 * last one then says how many are left out. */
#define VERIFY_ROWS 10000

typedef struct verify_rows {
  grid *grid;
  sqlite3_int64 most, count;
} verify_rows;

static int verify_row(void *arg, const stratakv_finding *finding) {
  verify_rows *rows = arg;
  grid *g = rows->grid;
  if (++rows->count > rows->most) return 0;
  grid_new_row(g);
  grid_text(g, finding->file);
  if (finding->offset <= INT64_MAX) {
    grid_integer(g, (sqlite3_int64)finding->offset);
  } else {
    grid_null(g); /* the file as a whole */
  }
  grid_text(g, finding->severity == STRATAKV_NOTE ? "note" : "damage");
  grid_text(g, finding->message);
  return g->rc != SQLITE_OK;
}

static void verify_end(verify_rows *rows) {
  grid *g = rows->grid;
  char *text;
  if (rows->count <= rows->most || g->rc != SQLITE_OK) return;
  text = sqlite3_mprintf("%lld more findings are not shown",
                         rows->count - rows->most);
  if (text == NULL) g->rc = SQLITE_NOMEM;
  grid_new_row(g);
  grid_text(g, ".");
  grid_null(g);
  grid_text(g, "note");
  if (text != NULL) grid_text(g, text);
  sqlite3_free(text);
}

/* Damage is the result, and no failure. */
static void fill_verify(grid *g, skv_sql_conn *conn, sqlite3_value **argv) {
  stratakv_error err = {0, ""};
  skv_sql_vtab *vtab = fill_find_table(g, conn, argv[0]);
  verify_rows rows = {g, VERIFY_ROWS, 0};
  int rc;
  if (vtab == NULL) return;
#ifdef SKV_TEST
  const char *most = getenv("SKV_TEST_VERIFY_ROWS");
  if (most != NULL) rows.most = atoi(most);
#endif
  rc = skv_sql_check(vtab, verify_row, &rows, &err);
  verify_end(&rows);
  if (rc == STRATAKV_OK || (rc == STRATAKV_CORRUPT && g->count > 0)) return;
  grid_fail(g, skv_sql_code(rc), skv_sql_engine_message(rc, &err));
}

/* A limit of stratakv_estimate; NULL is open. */
static const void *estimate_limit(grid *g, const skv_sql_vtab *vtab,
                                  sqlite3_value *value, skv_sql_key *key) {
  const char *class_name = "";
  int rc;
  key->len = 0;
  if (value == NULL || sqlite3_value_type(value) == SQLITE_NULL) return NULL;
  rc = skv_sql_key_store(value, vtab->args.key_type, key, &class_name);
  if (rc == SQLITE_OK) return key->data;
  grid_fail(g, rc,
            rc == SQLITE_MISMATCH
                ? sqlite3_mprintf("stratakv: a key of %s cannot be %s",
                                  vtab->name, class_name)
                : NULL);
  return NULL;
}

static void fill_estimate(grid *g, skv_sql_conn *conn, sqlite3_value **argv) {
  stratakv_error err = {0, ""};
  skv_sql_vtab *vtab = fill_find_table(g, conn, argv[0]);
  skv_sql_key low;
  skv_sql_key high;
  const void *start;
  const void *end;
  uint64_t entries = 0;
  uint64_t bytes = 0;
  int rc;
  if (vtab == NULL) return;
  start = estimate_limit(g, vtab, argv[1], &low);
  end = estimate_limit(g, vtab, argv[2], &high);
  if (g->rc != SQLITE_OK) return;
  rc = stratakv_estimate(skv_sql_context_store(vtab->context), vtab->table,
                         start, low.len, end, high.len, &err, &entries, &bytes);
  if (rc != STRATAKV_OK) {
    grid_fail(g, skv_sql_code(rc), skv_sql_engine_message(rc, &err));
    return;
  }
  grid_new_row(g);
  grid_integer(g, (sqlite3_int64)entries);
  grid_integer(g, (sqlite3_int64)bytes);
}

static const tablefunc_row tablefuncs[] = {
    {"stratakv_stats",
     "CREATE TABLE x(name TEXT, value, unit TEXT, help TEXT, tab HIDDEN)", 4, 1,
     1, fill_stats},
    {"stratakv_estimate",
     "CREATE TABLE x(entries INTEGER, bytes INTEGER, tab HIDDEN, lo HIDDEN,"
     " hi HIDDEN)",
     2, 3, 1, fill_estimate},
    {"stratakv_verify",
     "CREATE TABLE x(file TEXT, offset INTEGER, severity TEXT, message TEXT,"
     " tab HIDDEN)",
     4, 1, 1, fill_verify},
    {"stratakv_options",
     "CREATE TABLE x(name TEXT, accepts TEXT, initial TEXT, scope TEXT,"
     " help TEXT)",
     5, 0, 0, fill_options},
    {"stratakv_commands",
     "CREATE TABLE x(name TEXT, arguments TEXT, transactional INTEGER,"
     " help TEXT)",
     4, 0, 0, fill_commands},
};

/* ---- The module -------------------------------------------------------- */

static int tablefunc_connect(sqlite3 *db, void *pAux, int argc,
                             const char *const *argv, sqlite3_vtab **ppVtab,
                             char **pzErr) {
  const tablefunc_aux *aux = pAux;
  tablefunc_table *table;
  int rc = sqlite3_declare_vtab(db, aux->row->declaration);
  (void)argc;
  (void)argv;
  (void)pzErr;
  if (rc == SQLITE_OK) rc = sqlite3_vtab_config(db, SQLITE_VTAB_DIRECTONLY);
  if (rc != SQLITE_OK) return rc;
  table = sqlite3_malloc64(sizeof *table);
  if (table == NULL) return SQLITE_NOMEM;
  memset(table, 0, sizeof *table);
  table->aux = aux;
  *ppVtab = &table->base;
  return SQLITE_OK;
}

static int tablefunc_disconnect(sqlite3_vtab *pVtab) {
  sqlite3_free(pVtab);
  return SQLITE_OK;
}

/* Pass the arguments in column order; bit i of idxNum says that argument i is
 * among them. An argument that is not usable here may be elsewhere. */
static int tablefunc_best_index(sqlite3_vtab *pVtab, sqlite3_index_info *info) {
  const tablefunc_row *row = ((tablefunc_table *)pVtab)->aux->row;
  int at[MAX_ARGUMENTS] = {-1, -1, -1};
  int count = 0;
  for (int i = 0; i < info->nConstraint; i++) {
    int argument = info->aConstraint[i].iColumn - row->columns;
    if (argument < 0 || argument >= row->arguments) continue;
    if (info->aConstraint[i].op != SQLITE_INDEX_CONSTRAINT_EQ) continue;
    if (!info->aConstraint[i].usable) return SQLITE_CONSTRAINT;
    at[argument] = i;
  }
  info->idxNum = 0;
  for (int i = 0; i < row->arguments; i++) {
    if (at[i] < 0) continue;
    info->idxNum |= 1 << i;
    info->aConstraintUsage[at[i]].argvIndex = ++count;
    info->aConstraintUsage[at[i]].omit = 1;
  }
  info->estimatedCost = 10;
  info->estimatedRows = 50;
  return SQLITE_OK;
}

static int tablefunc_open(sqlite3_vtab *pVtab, sqlite3_vtab_cursor **ppCursor) {
  tablefunc_cursor *cursor = sqlite3_malloc64(sizeof *cursor);
  (void)pVtab;
  if (cursor == NULL) return SQLITE_NOMEM;
  memset(cursor, 0, sizeof *cursor);
  *ppCursor = &cursor->base;
  return SQLITE_OK;
}

static int tablefunc_close(sqlite3_vtab_cursor *pCursor) {
  tablefunc_cursor *cursor = (tablefunc_cursor *)pCursor;
  grid_clear(&cursor->grid);
  sqlite3_free(cursor);
  return SQLITE_OK;
}

static int tablefunc_filter(sqlite3_vtab_cursor *pCursor, int idxNum,
                            const char *idxStr, int argc,
                            sqlite3_value **argv) {
  tablefunc_cursor *cursor = (tablefunc_cursor *)pCursor;
  tablefunc_table *table = (tablefunc_table *)pCursor->pVtab;
  const tablefunc_row *row = table->aux->row;
  sqlite3_value *arguments[MAX_ARGUMENTS] = {NULL, NULL, NULL};
  int next = 0;
  (void)idxStr;
  (void)argc;
  for (int i = 0; i < row->arguments; i++) {
    if (idxNum & (1 << i)) arguments[i] = argv[next++];
  }
  grid_clear(&cursor->grid);
  cursor->at = 0;
  if (row->required > 0 && arguments[0] == NULL) {
    grid_fail(
        &cursor->grid, SQLITE_ERROR,
        sqlite3_mprintf("stratakv: %s needs a table, for example %s('kv')",
                        row->name, row->name));
  } else {
    row->fill(&cursor->grid, table->aux->conn, arguments);
  }
  if (cursor->grid.rc == SQLITE_OK) return SQLITE_OK;
  sqlite3_free(table->base.zErrMsg);
  table->base.zErrMsg = cursor->grid.message;
  cursor->grid.message = NULL;
  cursor->at = cursor->grid.count;
  return cursor->grid.rc;
}

static int tablefunc_next(sqlite3_vtab_cursor *pCursor) {
  ((tablefunc_cursor *)pCursor)->at++;
  return SQLITE_OK;
}

static int tablefunc_eof(sqlite3_vtab_cursor *pCursor) {
  const tablefunc_cursor *cursor = (const tablefunc_cursor *)pCursor;
  return cursor->at >= cursor->grid.count;
}

static int tablefunc_column(sqlite3_vtab_cursor *pCursor, sqlite3_context *ctx,
                            int column) {
  const tablefunc_cursor *cursor = (const tablefunc_cursor *)pCursor;
  const tablefunc_table *table = (const tablefunc_table *)pCursor->pVtab;
  const grid_cell *cell;
  if (column >= table->aux->row->columns) return SQLITE_OK; /* an argument */
  cell = &cursor->grid.rows[cursor->at][column];
  switch (cell->type) {
  case SQLITE_TEXT:
    sqlite3_result_text(ctx, cell->text, -1, SQLITE_TRANSIENT);
    break;
  case SQLITE_INTEGER: sqlite3_result_int64(ctx, cell->number); break;
  case SQLITE_FLOAT: sqlite3_result_double(ctx, cell->real); break;
  default: break;
  }
  return SQLITE_OK;
}

static int tablefunc_rowid(sqlite3_vtab_cursor *pCursor,
                           sqlite3_int64 *pRowid) {
  *pRowid = (sqlite3_int64)((tablefunc_cursor *)pCursor)->at + 1;
  return SQLITE_OK;
}

static const sqlite3_module tablefunc_module = {
    .xConnect = tablefunc_connect,
    .xBestIndex = tablefunc_best_index,
    .xDisconnect = tablefunc_disconnect,
    .xDestroy = tablefunc_disconnect,
    .xOpen = tablefunc_open,
    .xClose = tablefunc_close,
    .xFilter = tablefunc_filter,
    .xNext = tablefunc_next,
    .xEof = tablefunc_eof,
    .xColumn = tablefunc_column,
    .xRowid = tablefunc_rowid,
};

static void tablefunc_free_aux(void *arg) {
  tablefunc_aux *aux = arg;
  skv_sql_conn_unref(aux->conn);
  sqlite3_free(aux);
}

int skv_sql_tablefunc_register(skv_sql_conn *conn) {
  for (size_t i = 0; i < sizeof tablefuncs / sizeof tablefuncs[0]; i++) {
    tablefunc_aux *aux = sqlite3_malloc64(sizeof *aux);
    int rc;
    if (aux == NULL) return SQLITE_NOMEM;
    aux->row = &tablefuncs[i];
    aux->conn = skv_sql_conn_ref(conn);
    /* The destructor runs on failure too. */
    rc = sqlite3_create_module_v2(skv_sql_conn_db(conn), aux->row->name,
                                  &tablefunc_module, aux, tablefunc_free_aux);
    if (rc != SQLITE_OK) return rc;
  }
  return SQLITE_OK;
}

void skv_sql_tablefunc_unregister(sqlite3 *db) {
  for (size_t i = 0; i < sizeof tablefuncs / sizeof tablefuncs[0]; i++) {
    sqlite3_create_module_v2(db, tablefuncs[i].name, NULL, NULL, NULL);
  }
}
