/*
 * Deciding base, owner and grant for an open, and the place of a backup: see
 * trust.h. The only system call here is realpath(), which asks whether a
 * requested path lies in a granted root; what was opened is compared once more
 * after the open, so a path that changes in between gains nothing.
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

/* ---- Where a backup goes ----------------------------------------------- */

static int trust_no_dir(const char *dir, stratakv_error *err) {
  return trust_fail(
      err, STRATAKV_CANTOPEN,
      "\"%s\" cannot be made: name a directory in one that exists", dir);
}

/* The canonical form of an absolute path whose last component may be missing;
 * 0 if there is none. */
static int trust_canonical_new(const char *dir, char *canonical) {
  char above[SKV_SQL_MAX_PATH];
  const char *name;
  size_t len = strlen(dir);
  int n;
  while (len > 1 && dir[len - 1] == '/') len--;
  n = snprintf(above, sizeof above, "%.*s", (int)len, dir);
  if (n <= 1 || (size_t)n >= sizeof above) return 0;
  name = strrchr(above, '/') + 1;
  if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return 0;
  above[name - above - 1] = 0;
  if (realpath(above[0] != 0 ? above : "/", canonical) == NULL) return 0;
  len = strlen(canonical);
  n = snprintf(canonical + len, PATH_MAX - len, "%s%s",
               canonical[len - 1] == '/' ? "" : "/", name);
  return n > 0 && (size_t)n < PATH_MAX - len;
}

/* Make the place `path`, beneath `base` by the engine's own walk; the path is
 * known to begin with the base. */
static int trust_beneath(const char *base, const char *path,
                         skv_sql_place *out) {
  size_t len = strcmp(base, "/") == 0 ? 0 : strlen(base);
  if (strncmp(base, path, len) != 0 || path[len] != '/') return 0;
  out->has_base = 1;
  snprintf(out->base, sizeof out->base, "%s", base);
  snprintf(out->path, sizeof out->path, "%s", path + len + 1);
  return 1;
}

/* An absolute path that a statement names. */
static int trust_place_absolute(skv_sql_conn *conn, const char *base,
                                const char *dir, stratakv_error *err,
                                skv_sql_place *out) {
  char canonical[PATH_MAX];
  char canonical_base[PATH_MAX];
  const char *root;
  if (!trust_canonical_new(dir, canonical)) return trust_no_dir(dir, err);
  root = skv_sql_conn_root(conn, canonical);
  if (root != NULL && trust_beneath(root, canonical, out)) return STRATAKV_OK;
  if (root != NULL) { /* the root itself */
    snprintf(out->path, sizeof out->path, "%s", canonical);
    return STRATAKV_OK;
  }
  if (realpath(base, canonical_base) != NULL &&
      trust_beneath(canonical_base, canonical, out)) {
    return STRATAKV_OK;
  }
  return trust_fail(err, STRATAKV_AUTH,
                    "\"%s\" is not beneath \"%s\"; SELECT "
                    "stratakv_allow_root, or stratakv_backup",
                    dir, base);
}

/* A relative path: beneath the base, or for a user from it. */
static int trust_place_relative(const char *base, const char *dir,
                                int is_any_path, stratakv_error *err,
                                skv_sql_place *out) {
  int n;
  out->has_base = !is_any_path;
  snprintf(out->base, sizeof out->base, "%s", base);
  n = is_any_path ? snprintf(out->path, sizeof out->path, "%s/%s", base, dir)
                  : snprintf(out->path, sizeof out->path, "%s", dir);
  if (n > 0 && (size_t)n < sizeof out->path) return STRATAKV_OK;
  return trust_no_dir(dir, err);
}

int skv_sql_trust_place(skv_sql_conn *conn, const char *schema,
                        const skv_sql_args *args, const char *dir,
                        int is_any_path, stratakv_error *err,
                        skv_sql_place *out) {
  trust_place place;
  int rc;
  memset(out, 0, sizeof *out);
  rc = trust_locate(conn, schema, args, err, &place);
  if (rc != SQLITE_OK) return rc;
  if (dir[0] == 0 || strlen(dir) >= sizeof out->path) {
    return trust_no_dir(dir, err);
  }
  if (dir[0] != '/') {
    return trust_place_relative(place.base, dir, is_any_path, err, out);
  }
  if (!is_any_path) {
    return trust_place_absolute(conn, place.base, dir, err, out);
  }
  snprintf(out->path, sizeof out->path, "%s", dir);
  return STRATAKV_OK;
}

int skv_sql_trust_allow_root(skv_sql_conn *conn, const char *root,
                             char *canonical) {
  if (root == NULL || realpath(root, canonical) == NULL) return SQLITE_CANTOPEN;
  return skv_sql_conn_grant(conn, canonical, 1);
}
