/*
 * The state of a connection, and the process-wide list by which
 * stratakv_allow_root() finds it.
 */
#include "ext/sqlite/connection.h"

#include <pthread.h>
#include <string.h>

#include "ext/sqlite/context.h"

SQLITE_EXTENSION_INIT3

typedef struct conn_grant {
  struct conn_grant *next;
  int is_root;
  char path[];
} conn_grant;

typedef struct conn_memory {
  struct conn_memory *next;
  skv_sql_context *context;
  char *schema;
  char *table;
} conn_memory;

struct skv_sql_conn {
  skv_sql_conn *next; /* under conn_mutex, as the list's head */
  sqlite3 *db;
  int refs;
  skv_sql_context *contexts; /* open stores */
  skv_sql_vtab *tables;      /* connected tables, the newest first */
  conn_grant *grants;
  conn_memory *memory;
};

static pthread_mutex_t conn_mutex = PTHREAD_MUTEX_INITIALIZER;
static skv_sql_conn *conn_list;

skv_sql_conn *skv_sql_conn_new(sqlite3 *db) {
  skv_sql_conn *conn = sqlite3_malloc64(sizeof *conn);
  if (conn == NULL) return NULL;
  memset(conn, 0, sizeof *conn);
  conn->db = db;
  conn->refs = 1;
  pthread_mutex_lock(&conn_mutex);
  conn->next = conn_list;
  conn_list = conn;
  pthread_mutex_unlock(&conn_mutex);
  return conn;
}

skv_sql_conn *skv_sql_conn_find(sqlite3 *db) {
  skv_sql_conn *conn;
  pthread_mutex_lock(&conn_mutex);
  for (conn = conn_list; conn != NULL && conn->db != db; conn = conn->next) {
  }
  pthread_mutex_unlock(&conn_mutex);
  return conn;
}

skv_sql_conn *skv_sql_conn_ref(skv_sql_conn *conn) {
  conn->refs++;
  return conn;
}

static void conn_unlist(skv_sql_conn *conn) {
  skv_sql_conn **at;
  pthread_mutex_lock(&conn_mutex);
  for (at = &conn_list; *at != conn; at = &(*at)->next) {
  }
  *at = conn->next;
  pthread_mutex_unlock(&conn_mutex);
}

static void conn_free_memory(conn_memory *entry) {
  skv_sql_context_unref(entry->context);
  sqlite3_free(entry->schema);
  sqlite3_free(entry->table);
  sqlite3_free(entry);
}

void skv_sql_conn_unref(void *arg) {
  skv_sql_conn *conn = arg;
  if (conn == NULL || --conn->refs > 0) return;
  conn_unlist(conn);
  while (conn->memory != NULL) {
    conn_memory *entry = conn->memory;
    conn->memory = entry->next;
    conn_free_memory(entry);
  }
  while (conn->grants != NULL) {
    conn_grant *grant = conn->grants;
    conn->grants = grant->next;
    sqlite3_free(grant);
  }
  sqlite3_free(conn);
}

sqlite3 *skv_sql_conn_db(const skv_sql_conn *conn) { return conn->db; }

skv_sql_context **skv_sql_conn_contexts(skv_sql_conn *conn) {
  return &conn->contexts;
}

skv_sql_vtab **skv_sql_conn_tables(skv_sql_conn *conn) { return &conn->tables; }

/* ---- Grants ------------------------------------------------------------ */

static int grant_covers(const conn_grant *grant, const char *path) {
  size_t n = strlen(grant->path);
  if (strcmp(grant->path, path) == 0) return 1;
  if (!grant->is_root || strncmp(grant->path, path, n) != 0) return 0;
  return path[n] == '/' || strcmp(grant->path, "/") == 0;
}

int skv_sql_conn_is_granted(const skv_sql_conn *conn, const char *path) {
  for (conn_grant *grant = conn->grants; grant != NULL; grant = grant->next) {
    if (grant_covers(grant, path)) return 1;
  }
  return 0;
}

const char *skv_sql_conn_root(const skv_sql_conn *conn, const char *path) {
  for (conn_grant *grant = conn->grants; grant != NULL; grant = grant->next) {
    if (grant->is_root && grant_covers(grant, path)) return grant->path;
  }
  return NULL;
}

int skv_sql_conn_grant(skv_sql_conn *conn, const char *path, int is_root) {
  size_t size = strlen(path) + 1;
  conn_grant *grant;
  if (!is_root && skv_sql_conn_is_granted(conn, path)) return SQLITE_OK;
  grant = sqlite3_malloc64(sizeof *grant + size);
  if (grant == NULL) return SQLITE_NOMEM;
  grant->is_root = is_root;
  memcpy(grant->path, path, size);
  grant->next = conn->grants;
  conn->grants = grant;
  return SQLITE_OK;
}

/* ---- In-memory stores -------------------------------------------------- */

static conn_memory *memory_find(const skv_sql_conn *conn, const char *schema,
                                const char *table) {
  for (conn_memory *entry = conn->memory; entry != NULL; entry = entry->next) {
    if (sqlite3_stricmp(entry->schema, schema) == 0 &&
        sqlite3_stricmp(entry->table, table) == 0) {
      return entry;
    }
  }
  return NULL;
}

skv_sql_context *skv_sql_conn_memory(const skv_sql_conn *conn,
                                     const char *schema, const char *table) {
  conn_memory *entry = memory_find(conn, schema, table);
  return entry != NULL ? entry->context : NULL;
}

int skv_sql_conn_set_memory(skv_sql_conn *conn, const char *schema,
                            const char *table, skv_sql_context *context) {
  conn_memory *entry = memory_find(conn, schema, table);
  skv_sql_context *old;
  if (entry == NULL) {
    entry = sqlite3_malloc64(sizeof *entry);
    if (entry == NULL) return SQLITE_NOMEM;
    memset(entry, 0, sizeof *entry);
    entry->schema = sqlite3_mprintf("%s", schema);
    entry->table = sqlite3_mprintf("%s", table);
    if (entry->schema == NULL || entry->table == NULL) {
      conn_free_memory(entry);
      return SQLITE_NOMEM;
    }
    entry->next = conn->memory;
    conn->memory = entry;
  }
  old = entry->context;
  entry->context = skv_sql_context_ref(context);
  skv_sql_context_unref(old);
  return SQLITE_OK;
}
