/*
 * Deciding base, owner and grant for an open: see trust.h. The only system
 * call here is realpath(), which asks whether a requested path lies in a
 * granted root; what was opened is compared once more after the open, so a
 * path that changes in between gains nothing.
 */
#include "ext/sqlite/trust.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

SQLITE_EXTENSION_INIT3

/* What a table's place in the file system comes down to. */
typedef struct trust_place {
  const char *file;            /* database file, or NULL */
  char base[SKV_SQL_MAX_PATH]; /* directory, "." without a file */
  char path[SKV_SQL_MAX_PATH]; /* as the engine gets it */
} trust_place;

static int trust_is_memory(const char *path) {
  return strcmp(path, ":memory:") == 0;
}

/* Only a name that the VFS made absolute is a file that has a directory. */
static const char *trust_file(skv_sql_conn *conn, const char *schema) {
  const char *file = sqlite3_db_filename(skv_sql_conn_db(conn), schema);
  return file != NULL && file[0] == '/' ? file : NULL;
}

__attribute__((format(printf, 3, 4))) static int
trust_fail(stratakv_error *err, int code, const char *format, ...) {
  va_list ap;
  err->code = code;
  va_start(ap, format);
  vsnprintf(err->message, sizeof err->message, format, ap);
  va_end(ap);
  return code;
}

static int trust_locate(skv_sql_conn *conn, const char *schema,
                        const skv_sql_args *args, stratakv_error *err,
                        trust_place *place) {
  const char *name;
  int dir_len;
  int n;
  place->file = trust_file(conn, schema);
  memcpy(place->path, args->path, sizeof place->path);
  memcpy(place->base, ".", 2);
  if (place->file == NULL) return SQLITE_OK;

  name = strrchr(place->file, '/') + 1;
  dir_len = (int)(name - place->file) - 1;
  n = snprintf(place->base, sizeof place->base, "%.*s",
               dir_len == 0 ? 1 : dir_len, place->file);
  if (n >= 0 && (size_t)n < sizeof place->base && args->path[0] == 0) {
    n = snprintf(place->path, sizeof place->path, "%s-stratakv", name);
  }
  if (n < 0 || (size_t)n >= sizeof place->path) {
    return trust_fail(err, STRATAKV_CANTOPEN,
                      "the path of \"%.200s\" is too long", place->file);
  }
  return SQLITE_OK;
}

int skv_sql_trust_needs_path(skv_sql_conn *conn, const char *schema,
                             const skv_sql_args *args) {
  return args->path[0] == 0 && trust_file(conn, schema) == NULL;
}

/* The canonical form of what is asked for; 0 if there is no such thing. */
static int trust_canonical(const trust_place *place, char *canonical) {
  char joined[2 * SKV_SQL_MAX_PATH];
  if (place->path[0] == '/') return realpath(place->path, canonical) != NULL;
  snprintf(joined, sizeof joined, "%s/%s", place->base, place->path);
  return realpath(joined, canonical) != NULL;
}

static void trust_options(const skv_sql_args *args, stratakv_options *options) {
  stratakv_options_init(options);
  options->read_only = args->is_read_only;
  options->sync = args->sync;
  options->busy_timeout_ms = args->busy_timeout_ms;
  options->memory = args->memory;
  options->compression = args->compression;
  options->filter_bits = args->filter_bits;
  options->background = args->background;
  options->mmap = args->mmap;
}

static int trust_create(skv_sql_conn *conn, const trust_place *place,
                        stratakv_options *options, stratakv_error *err,
                        stratakv_store **out) {
  int rc;
  options->create = !options->read_only;
  if (place->file != NULL && !options->read_only) {
    options->owner = place->file;
    options->owner_mode = STRATAKV_OWNER_ADD;
  }
  rc = stratakv_open(place->path, options, err, out);
  if (rc != STRATAKV_OK) return rc;
  rc = skv_sql_conn_grant(conn, stratakv_path(*out), 0);
  if (rc != SQLITE_OK) {
    stratakv_close(*out, NULL);
    *out = NULL;
  }
  return rc;
}

static int trust_refuse(const char *path, stratakv_error *err) {
  return trust_fail(err, STRATAKV_AUTH,
                    "\"%s\" was not created by this connection; SELECT "
                    "stratakv_allow_root('%s')",
                    path, path);
}

/* Under a grant nobody is asked; what was opened must still be under it. */
static int trust_open_granted(skv_sql_conn *conn, const trust_place *place,
                              const stratakv_options *options,
                              stratakv_error *err, stratakv_store **out) {
  int rc = stratakv_open(place->path, options, err, out);
  if (rc != STRATAKV_OK) return rc;
  if (skv_sql_conn_is_granted(conn, stratakv_path(*out))) return STRATAKV_OK;
  rc = trust_refuse(stratakv_path(*out), err);
  stratakv_close(*out, NULL);
  *out = NULL;
  return rc;
}

static int trust_reopen(skv_sql_conn *conn, const trust_place *place,
                        stratakv_options *options, stratakv_error *err,
                        stratakv_store **out) {
  char canonical[PATH_MAX];
  int exists = trust_canonical(place, canonical);
  if (exists && skv_sql_conn_is_granted(conn, canonical)) {
    return trust_open_granted(conn, place, options, err, out);
  }
  if (place->file != NULL) {
    options->owner = place->file;
    options->owner_mode = STRATAKV_OWNER_REQUIRE;
    return stratakv_open(place->path, options, err, out);
  }
  if (exists) return trust_refuse(canonical, err);
  return trust_fail(err, STRATAKV_CANTOPEN, "no store at \"%s\"", place->path);
}

int skv_sql_trust_open(skv_sql_conn *conn, const char *schema,
                       const skv_sql_args *args, int is_create,
                       stratakv_error *err, stratakv_store **out) {
  trust_place place;
  stratakv_options options;
  int rc;
  *out = NULL;
  trust_options(args, &options);
  if (trust_is_memory(args->path)) {
    options.create = 1;
    options.read_only = 0;
    return stratakv_open(args->path, &options, err, out);
  }
  rc = trust_locate(conn, schema, args, err, &place);
  if (rc != SQLITE_OK) return rc;
  options.base = place.base;
  return is_create ? trust_create(conn, &place, &options, err, out)
                   : trust_reopen(conn, &place, &options, err, out);
}

int skv_sql_trust_allow_root(skv_sql_conn *conn, const char *root,
                             char *canonical) {
  if (root == NULL || realpath(root, canonical) == NULL) return SQLITE_CANTOPEN;
  return skv_sql_conn_grant(conn, canonical, 1);
}
