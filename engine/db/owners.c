/*
 * OWNERS: the database files that may open this store unasked (the SQL
 * surface's trust rules). The file's layout stands in handle.h.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/db/handle.h"
#include "engine/util/hash.h"

#define OWNERS_NAME "OWNERS"
#define OWNERS_LIMIT 65536u
#define OWNERS_HEAD "stratakv-owners 1 "

static bool owners_is_plain(uint8_t c) {
  return c > ' ' && c < 0x7f && c != '%';
}

static void owners_encode(const char *path, skv_buf *line) {
  for (const uint8_t *p = (const uint8_t *)path; *p; p++) {
    char hex[4];
    if (owners_is_plain(*p)) {
      skv_buf_u8(line, *p);
    } else {
      snprintf(hex, sizeof hex, "%%%02X", *p);
      skv_buf_append(line, hex, 3);
    }
  }
  skv_buf_u8(line, '\n');
}

/* The name of an owner: relative to the store's parent directory when it lies
 * beneath that, so that both can be moved together. */
static int owners_name(skv_store *store, const char *owner, skv_err *err,
                       skv_buf *line) {
  char canonical[4096];
  const char *dir = skv_store_info(store)->path;
  int rc = skv_store_env(store)->canonical(skv_store_env(store), owner, err,
                                           canonical);
  if (rc != STRATAKV_OK) return rc;
  const char *slash = strrchr(dir, '/');
  size_t parent = slash ? (size_t)(slash - dir) : 0;
  if (strncmp(canonical, dir, parent) == 0 && canonical[parent] == '/') {
    skv_buf_append(line, "../", 3);
    owners_encode(canonical + parent + 1, line);
  } else {
    owners_encode(canonical, line);
  }
  return line->rc == STRATAKV_OK ? STRATAKV_OK : skv_error_nomem(err);
}

/* The lines of OWNERS, empty if there is none; AUTH if it is damaged. */
static int owners_read(skv_store *store, skv_err *err, skv_buf *lines) {
  skv_buf bytes = {0};
  size_t head = strlen(OWNERS_HEAD);
  int rc = skv_store_read_file(store, OWNERS_NAME, OWNERS_LIMIT, err, &bytes);
  if (rc == STRATAKV_NOTFOUND) return STRATAKV_OK;
  if (rc != STRATAKV_OK && rc != STRATAKV_CORRUPT) return rc;
  char want[18];
  size_t body = head + 17;
  bool ok = rc == STRATAKV_OK && bytes.size >= body &&
            memcmp(bytes.data, OWNERS_HEAD, head) == 0;
  if (ok) {
    snprintf(want, sizeof want, "%016llx\n",
             (unsigned long long)skv_checksum(bytes.data + body,
                                              bytes.size - body, 0));
    ok = memcmp(bytes.data + head, want, 17) == 0;
  }
  if (ok) skv_buf_append(lines, bytes.data + body, bytes.size - body);
  skv_buf_clear(&bytes);
  if (!ok)
    return SKV_ERROR(err, STRATAKV_AUTH,
                     "OWNERS in \"%s\" is damaged; DROP and CREATE the table "
                     "(entries stay)",
                     skv_store_info(store)->path);
  return lines->rc == STRATAKV_OK ? STRATAKV_OK : skv_error_nomem(err);
}

int skv_owners_check(skv_db *db, skv_err *err) {
  skv_buf lines = {0};
  int rc = owners_read(db->store, err, &lines);
  skv_buf_clear(&lines);
  return rc;
}

/* The place of a line (newline included) among lines, or NULL. */
static const uint8_t *owners_find(const skv_buf *lines, const skv_buf *line) {
  const uint8_t *p = lines->data, *end = p ? p + lines->size : p;
  while (p && p < end) {
    const uint8_t *next = memchr(p, '\n', (size_t)(end - p));
    size_t n = next ? (size_t)(next - p) + 1 : (size_t)(end - p);
    if (n == line->size && memcmp(p, line->data, n) == 0) return p;
    p += n;
  }
  return NULL;
}

static int owners_hex(int c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Whether the file that a line names still exists. What owners_encode does not
 * write names none. */
static bool owners_exists(skv_store *store, const uint8_t *line, size_t n) {
  char path[8192], canonical[4096];
  size_t at = 0;
  if (n > 3 && memcmp(line, "../", 3) == 0)
    at =
        (size_t)snprintf(path, sizeof path, "%s/", skv_store_info(store)->path);
  for (size_t i = 0; i < n && line[i] != '\n' && at < sizeof path - 1; i++) {
    int c = line[i];
    if (c == '%') {
      int high = i + 2 < n ? owners_hex(line[i + 1]) : -1;
      int low = i + 2 < n ? owners_hex(line[i + 2]) : -1;
      if (high < 0 || low < 0) return false;
      c = high << 4 | low;
      i += 2;
    }
    path[at++] = (char)c;
  }
  path[at] = 0;
  return skv_store_env(store)->canonical(skv_store_env(store), path, NULL,
                                         canonical) == STRATAKV_OK;
}

/* Write OWNERS: the lines whose file exists, and one more. */
static int owners_write(skv_db *db, const skv_buf *lines, const skv_buf *line,
                        skv_err *err) {
  skv_buf body = {0}, file = {0};
  const uint8_t *p = lines->data, *end = p ? p + lines->size : p;
  while (p && p < end) {
    const uint8_t *next = memchr(p, '\n', (size_t)(end - p));
    size_t n = next ? (size_t)(next - p) + 1 : (size_t)(end - p);
    if (owners_exists(db->store, p, n)) skv_buf_append(&body, p, n);
    p += n;
  }
  skv_buf_append(&body, line->data, line->size);
  char head[64];
  int n = snprintf(head, sizeof head, OWNERS_HEAD "%016llx\n",
                   (unsigned long long)skv_checksum(body.data, body.size, 0));
  skv_buf_append(&file, head, (size_t)n);
  skv_buf_append(&file, body.data, body.size);
  int rc = body.rc != STRATAKV_OK || file.rc != STRATAKV_OK
               ? skv_error_nomem(err)
               : STRATAKV_OK;
  if (rc == STRATAKV_OK && file.size > OWNERS_LIMIT)
    rc = SKV_ERROR(err, STRATAKV_FULL, "OWNERS is full (64 KiB)");
  skv_name tmp;
  skv_db_next_name(db, &tmp);
  if (rc == STRATAKV_OK)
    rc = skv_store_write_file(db->store, OWNERS_NAME, &tmp, file.data,
                              file.size, err);
  skv_buf_clear(&body);
  skv_buf_clear(&file);
  return rc;
}

static int owners_add(skv_db *db, const skv_buf *line, skv_err *err) {
  skv_buf lines = {0};
  int rc = skv_head_lock(db, err); /* one writer of OWNERS at a time */
  if (rc != STRATAKV_OK) return rc;
  rc = owners_read(db->store, err, &lines);
  if (rc == STRATAKV_AUTH) { /* damaged: whoever executes CREATE starts anew */
    skv_buf_clear(&lines);
    rc = STRATAKV_OK;
  }
  if (rc == STRATAKV_OK && !owners_find(&lines, line))
    rc = owners_write(db, &lines, line, err);
  skv_head_unlock(db);
  skv_buf_clear(&lines);
  return rc;
}

/* Listed, and the directory is ours alone to write. */
static int owners_require(skv_store *store, const char *owner,
                          const skv_buf *line, skv_err *err) {
  const skv_dir_info *info = skv_store_info(store);
  skv_buf lines = {0};
  int rc = owners_read(store, err, &lines);
  bool listed = rc == STRATAKV_OK && owners_find(&lines, line) != NULL;
  skv_buf_clear(&lines);
  if (rc != STRATAKV_OK) return rc;
  if (!listed)
    return SKV_ERROR(err, STRATAKV_AUTH,
                     "\"%s\" does not list \"%s\" in OWNERS; DROP and CREATE "
                     "the table (entries stay), or SELECT "
                     "stratakv_allow_root('%s')",
                     info->path, owner, info->path);
  if (info->owner != info->euid || (info->mode & 02) != 0)
    return SKV_ERROR(err, STRATAKV_AUTH,
                     "\"%s\" belongs to another user or is world-writable",
                     info->path);
  return STRATAKV_OK;
}

int skv_owners_require(skv_store *store, const stratakv_options *options,
                       skv_err *err) {
  skv_buf line = {0};
  if (!options->owner || options->owner_mode != STRATAKV_OWNER_REQUIRE)
    return STRATAKV_OK;
  int rc = owners_name(store, options->owner, err, &line);
  if (rc == STRATAKV_OK) rc = owners_require(store, options->owner, &line, err);
  skv_buf_clear(&line);
  return rc;
}

int skv_owners_apply(skv_db *db, const stratakv_options *options,
                     skv_err *err) {
  if (!options->owner || options->owner_mode == STRATAKV_OWNER_NONE)
    return STRATAKV_OK;
  skv_buf line = {0};
  int rc = owners_name(db->store, options->owner, err, &line);
  if (rc == STRATAKV_OK)
    rc = options->owner_mode == STRATAKV_OWNER_ADD
             ? owners_add(db, &line, err)
             : owners_require(db->store, options->owner, &line, err);
  skv_buf_clear(&line);
  return rc;
}
