/*
 * An actor of the differential test: a connection with tables of the store, in
 * this process or in a child that does what a socket asks.
 *
 * RESULT  of a statement: code, message, changes, and its rows as text, one a
 *   line. A column is its class and its value; a long one is its length and a
 *   hash.
 */
#ifndef TEST_C_DIFF_ACTOR_H
#define TEST_C_DIFF_ACTOR_H

#include <inttypes.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/c/diff.h"

typedef struct diff_result {
  struct diff_head {
    int code;       /* extended */
    int changes;    /* sqlite3_changes() afterwards */
    int total;      /* by how much sqlite3_total_changes() grew */
    int autocommit; /* no transaction is open */
    int is_done;    /* of a cursor: no row follows */
    size_t rows;
    size_t text_len;
    char message[256];
  } head;
  diff_text text;
} diff_result;

/* ---- Rows ---------------------------------------------------------------- */

#define ROW_LONG 100 /* bytes from which on a value is shown as its hash */

static inline uint64_t row_hash(const unsigned char *p, size_t n) {
  uint64_t h = n * 0x9e3779b97f4a7c15u + 1;
  for (; n >= 8; p += 8, n -= 8) {
    uint64_t v;
    memcpy(&v, p, 8);
    h = (h ^ v) * 0xff51afd7ed558ccdu;
    h ^= h >> 32;
  }
  for (; n > 0; p++, n--) h = (h ^ *p) * 0x100000001b3u;
  return h;
}

static inline void row_bytes(diff_text *t, char class, const unsigned char *p,
                             size_t n) {
  static const char hex[] = "0123456789abcdef";
  if (n > ROW_LONG) {
    text_put(t, "%c[%zu bytes %016" PRIx64 "]", class, n, row_hash(p, n));
    return;
  }
  text_add(t, &class, 1);
  for (size_t i = 0; i < n; i++) {
    char escape[4] = {'\\', 'x', hex[p[i] >> 4], hex[p[i] & 15]};
    bool plain = class == 'T' && p[i] >= ' ' && p[i] < 127 && p[i] != '\\';
    text_add(t, plain ? (const char *)&p[i] : escape, plain ? 1 : 4);
  }
}

static inline void row_integer(diff_text *t, int64_t v) {
  char digits[24];
  size_t at = sizeof digits;
  uint64_t n = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
  do digits[--at] = (char)('0' + n % 10);
  while ((n /= 10) > 0);
  if (v < 0) digits[--at] = '-';
  text_add(t, digits + at, sizeof digits - at);
}

static inline void row_add(diff_result *result, sqlite3_stmt *stmt) {
  diff_text *t = &result->text;
  int columns = sqlite3_column_count(stmt);
  for (int i = 0; i < columns; i++) {
    if (i > 0) text_add(t, "|", 1);
    int class = sqlite3_column_type(stmt, i);
    if (class == SQLITE_INTEGER) {
      row_integer(t, sqlite3_column_int64(stmt, i));
    } else if (class == SQLITE_FLOAT) {
      text_put(t, "R%.17g", sqlite3_column_double(stmt, i));
    } else if (class == SQLITE_NULL) {
      text_add(t, "N", 1);
    } else {
      const void *p = class == SQLITE_TEXT ? sqlite3_column_text(stmt, i)
                                           : sqlite3_column_blob(stmt, i);
      row_bytes(t, class == SQLITE_TEXT ? 'T' : 'B', p,
                (size_t)sqlite3_column_bytes(stmt, i));
    }
  }
  text_add(t, "\n", 1);
  result->head.rows++;
}

/* ---- Statements ---------------------------------------------------------- */

static inline void result_end(diff_result *result, sqlite3 *db, int total) {
  result->head.code = sqlite3_extended_errcode(db);
  snprintf(result->head.message, sizeof result->head.message, "%s",
           result->head.code == SQLITE_OK || result->head.code == SQLITE_ROW ||
                   result->head.code == SQLITE_DONE
               ? ""
               : sqlite3_errmsg(db));
  if (result->head.message[0] == 0) result->head.code = SQLITE_OK;
  result->head.changes = sqlite3_changes(db);
  result->head.total = sqlite3_total_changes(db) - total;
  result->head.autocommit = sqlite3_get_autocommit(db);
}

static inline void result_begin(diff_result *result) {
  memset(&result->head, 0, sizeof result->head);
  text_clear(&result->text);
}

/* One statement, to its end. */
static inline void sql_run(sqlite3 *db, const char *sql, diff_result *result) {
  sqlite3_stmt *stmt = NULL;
  int total = sqlite3_total_changes(db);
  result_begin(result);
  if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK)
    while (sqlite3_step(stmt) == SQLITE_ROW) row_add(result, stmt);
  sqlite3_finalize(stmt);
  result_end(result, db, total);
}

/* Statements that cannot fail. */
static inline void sql_must(sqlite3 *db, const char *sql) {
  char *message = NULL;
  if (sqlite3_exec(db, sql, NULL, NULL, &message) == SQLITE_OK) return;
  fprintf(stderr, "%.2000s: %s\n", sql, message);
  exit(2);
}

/* Each connection is one thread's: no mutex at every call. */
#define DIFF_OPEN_FLAGS                                                        \
  (SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX)

/* ---- A connection -------------------------------------------------------- */

typedef struct diff_actor {
  sqlite3 *db; /* in this process, else NULL */
  sqlite3_stmt *cursors[DIFF_SLOTS];
  pid_t pid; /* of the child, else 0 */
  int socket;
} diff_actor;

/* stratakv.so of the build that this program belongs to. */
static char diff_extension[4096];

static inline sqlite3 *actor_connect(void) {
  sqlite3 *db;
  char *message = NULL;
  if (sqlite3_open_v2(":memory:", &db, DIFF_OPEN_FLAGS, NULL) != SQLITE_OK ||
      sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1,
                        (int *)NULL) != SQLITE_OK ||
      sqlite3_load_extension(db, diff_extension, "sqlite3_stratakv_init",
                             &message) != SQLITE_OK) {
    fprintf(stderr, "%s: %s\n", diff_extension, message);
    exit(2);
  }
  sqlite3_extended_result_codes(db, 1);
  sqlite3_db_config(db, SQLITE_DBCONFIG_LOOKASIDE, NULL, 1200, 400);
  return db;
}

static inline void cursor_rows(diff_actor *actor, int slot, int rows,
                               diff_result *result) {
  int total = sqlite3_total_changes(actor->db);
  sqlite3_stmt *stmt = actor->cursors[slot];
  while (stmt != NULL && rows-- > 0 && !result->head.is_done) {
    if (sqlite3_step(stmt) == SQLITE_ROW)
      row_add(result, stmt);
    else
      result->head.is_done = 1;
  }
  if (stmt == NULL || result->head.is_done) {
    sqlite3_finalize(stmt); /* the connection then has its code */
    actor->cursors[slot] = NULL;
    result->head.is_done = 1;
  }
  result_end(result, actor->db, total);
}

/* What can be asked of an actor. */
typedef enum diff_ask { ASK_RUN, ASK_OPEN, ASK_STEP, ASK_CLOSE } diff_ask;

static inline void actor_serve(diff_actor *actor, diff_ask ask, int slot,
                               int rows, const char *sql, diff_result *result) {
  switch (ask) {
  case ASK_RUN: sql_run(actor->db, sql, result); break;
  case ASK_OPEN:
    result_begin(result);
    sqlite3_prepare_v2(actor->db, sql, -1, &actor->cursors[slot], NULL);
    cursor_rows(actor, slot, 1, result);
    break;
  case ASK_STEP:
    result_begin(result);
    cursor_rows(actor, slot, rows, result);
    break;
  case ASK_CLOSE:
    result_begin(result);
    sqlite3_finalize(actor->cursors[slot]);
    actor->cursors[slot] = NULL;
    result_end(result, actor->db, sqlite3_total_changes(actor->db));
    break;
  }
}

static inline void actor_disconnect(diff_actor *actor) {
  for (int i = 0; i < DIFF_SLOTS; i++) {
    sqlite3_finalize(actor->cursors[i]);
    actor->cursors[i] = NULL;
  }
  if (actor->db != NULL && sqlite3_close(actor->db) != SQLITE_OK) {
    fprintf(stderr, "close: %s\n", sqlite3_errmsg(actor->db));
    exit(2);
  }
  actor->db = NULL;
}

/* ---- In a process of its own --------------------------------------------- */

typedef struct diff_request {
  int ask, slot, rows;
  size_t sql_len;
} diff_request;

static inline bool socket_read(int socket, void *bytes, size_t n) {
  char *p = bytes;
  while (n > 0) {
    ssize_t got = read(socket, p, n);
    if (got <= 0) return false;
    p += got;
    n -= (size_t)got;
  }
  return true;
}

/* In one piece: the reader wakes once. */
static inline bool socket_write(int socket, const void *head, size_t head_len,
                                const void *text, size_t text_len) {
  struct iovec parts[2] = {{(void *)(uintptr_t)head, head_len},
                           {(void *)(uintptr_t)text, text_len}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
  while (parts[0].iov_len + parts[1].iov_len > 0) {
    ssize_t put = sendmsg(socket, &message, MSG_NOSIGNAL);
    if (put <= 0) return false;
    for (int i = 0; i < 2; i++) {
      size_t n =
          (size_t)put < parts[i].iov_len ? (size_t)put : parts[i].iov_len;
      parts[i].iov_base = (char *)parts[i].iov_base + n;
      parts[i].iov_len -= n;
      put -= (ssize_t)n;
    }
  }
  return true;
}

/* Until the parent closes the socket. */
static inline void child_run(int socket) {
  diff_actor actor = {.db = actor_connect(), .socket = -1};
  diff_result result = {0};
  diff_request request;
  while (socket_read(socket, &request, sizeof request)) {
    char *sql = malloc(request.sql_len + 1);
    if (sql == NULL || !socket_read(socket, sql, request.sql_len)) _exit(3);
    sql[request.sql_len] = 0;
    actor_serve(&actor, (diff_ask)request.ask, request.slot, request.rows, sql,
                &result);
    free(sql);
    result.head.text_len = result.text.len;
    if (!socket_write(socket, &result.head, sizeof result.head,
                      result.text.data, result.text.len))
      break;
  }
  actor_disconnect(&actor);
  text_free(&result.text);
  fflush(NULL);
  close(socket);
}

static inline void actor_fork(diff_actor *actor) {
  int pair[2];
  fflush(NULL);
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) abort();
  actor->pid = fork();
  if (actor->pid < 0) abort();
  if (actor->pid == 0) {
    close(pair[0]);
    child_run(pair[1]);
    exit(0); /* not _exit: leaks and coverage are looked at */
  }
  close(pair[1]);
  actor->socket = pair[0];
}

/* Ends the child: killed, or by closing its connection. Returns whether it
 * ended as it should. */
static inline bool actor_end(diff_actor *actor, bool killed) {
  int status;
  if (actor->pid == 0) {
    actor_disconnect(actor);
    return true;
  }
  if (killed) kill(actor->pid, SIGKILL);
  /* Children that were forked later hold the socket too. */
  shutdown(actor->socket, SHUT_RDWR);
  close(actor->socket);
  waitpid(actor->pid, &status, 0);
  actor->pid = 0;
  return killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static inline void actor_begin(diff_actor *actor, bool in_process) {
  *actor = (diff_actor){.socket = -1};
  if (in_process)
    actor_fork(actor);
  else
    actor->db = actor_connect();
}

/* False if the child is gone. */
static inline bool actor_do(diff_actor *actor, diff_ask ask, int slot, int rows,
                            const char *sql, diff_result *result) {
  diff_request request = {(int)ask, slot, rows, sql != NULL ? strlen(sql) : 0};
  if (actor->pid == 0) {
    actor_serve(actor, ask, slot, rows, sql, result);
    return true;
  }
  result_begin(result);
  if (!socket_write(actor->socket, &request, sizeof request, sql,
                    request.sql_len) ||
      !socket_read(actor->socket, &result->head, sizeof result->head))
    return false;
  for (size_t left = result->head.text_len; left > 0;) {
    char bytes[4096];
    size_t n = left < sizeof bytes ? left : sizeof bytes;
    if (!socket_read(actor->socket, bytes, n)) return false;
    text_add(&result->text, bytes, n);
    left -= n;
  }
  return true;
}

#endif
