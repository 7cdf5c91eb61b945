/*
 * stratakv_inspect: which file it is, and the small ones. See inspect.h.
 */
#include "engine/db/inspect.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "engine/util/hash.h"

#define INSPECT_LINE 2048
#define INSPECT_PAUSES 64u   /* in a search, between two lines */
#define INSPECT_SMALL 65536u /* bytes of a small file that are looked at */

/* ---- Lines --------------------------------------------------------------- */

int skv_inspect_line(skv_inspect *inspect, skv_err *err, const char *format,
                     ...) {
  char text[INSPECT_LINE];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (!inspect->line || inspect->line(inspect->arg, text) == 0)
    return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_INTERRUPT, "interrupted");
}

static int inspect_rest(void *arg, skv_err *err) {
  skv_inspect *inspect = arg;
  if (++inspect->pauses % INSPECT_PAUSES != 0) return STRATAKV_OK;
  return skv_inspect_line(inspect, err, "    still looking for what is whole");
}

skv_pause skv_inspect_pause(skv_inspect *inspect) {
  return (skv_pause){inspect_rest, inspect};
}

int skv_inspect_damage(skv_inspect *inspect, uint64_t at, skv_err *err,
                       const char *what) {
  if (!inspect->damaged)
    skv_error_corrupt(&inspect->first, inspect->name, at, what);
  inspect->damaged = true;
  return skv_inspect_line(inspect, err, "at %" PRIu64 "  DAMAGED: %s", at,
                          what);
}

int skv_inspect_entry(skv_inspect *inspect, const skv_entry *entry,
                      skv_err *err) {
  char key[600], value[200];
  skv_key_text(entry->key, key, sizeof key);
  if (entry->kind == SKV_KIND_DELETE)
    return skv_inspect_line(inspect, err, "    lsn %" PRIu64 "  delete  %s",
                            entry->lsn, key);
  skv_bytes_text(entry->value, value, sizeof value);
  return skv_inspect_line(inspect, err,
                          "    lsn %" PRIu64 "  put  %s  value of %zu: %s",
                          entry->lsn, key, entry->value.size, value);
}

/* ---- Small files --------------------------------------------------------- */

static void inspect_hex(const uint8_t *bytes, char text[33]) {
  for (int i = 0; i < 16; i++) snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

static int inspect_current(skv_inspect *inspect, const skv_buf *bytes,
                           skv_err *err) {
  const uint8_t *p = bytes->data;
  char id[33];
  if (bytes->size != 64)
    return skv_inspect_damage(inspect, 0, err, "wrong size");
  inspect_hex(p + 16, id);
  bool ok = memcmp(p, "STRATCUR", 8) == 0 &&
            skv_checksum_ok(p, 56, 0, skv_get64(p + 56));
  int rc = skv_inspect_line(
      inspect, err,
      "CURRENT  format %" PRIu32 "  store id %s  manifest %06" PRIu64
      ".manifest  checksum %s",
      skv_get32(p + 8), id, skv_get64(p + 32), ok ? "ok" : "BAD");
  if (rc == STRATAKV_OK && !ok)
    rc = skv_inspect_damage(inspect, 0, err, "checksum mismatch");
  return rc;
}

static int inspect_slots(skv_inspect *inspect, const skv_shared *shared,
                         skv_err *err) {
  int rc = STRATAKV_OK;
  for (unsigned i = 0; rc == STRATAKV_OK && i < SKV_SLOTS; i++) {
    const skv_slot *slot = &shared->slots[i];
    char program[80];
    if (slot->incarnation == 0) continue;
    uint64_t words[2] = {slot->program[0], slot->program[1]};
    size_t n = strnlen((const char *)words, 16);
    skv_bytes_text(skv_slice_of(words, n), program, sizeof program);
    rc = skv_inspect_line(inspect, err,
                          "slot %u  pid %" PRIu32 "  %s  incarnation %" PRIu32
                          "  oldest log mapped %" PRIu64,
                          i, slot->pid, program, slot->incarnation,
                          slot->pinned_wal);
  }
  return rc;
}

static int inspect_page(skv_inspect *inspect, const skv_shared *s,
                        skv_err *err) {
  char boot[33], id[33];
  inspect_hex(s->boot_id, boot);
  inspect_hex(s->store_id, id);
  int rc = skv_inspect_line(
      inspect, err,
      "SHARED  %s  format %" PRIu32 "  boot id %s  store id %s  recoveries "
      "%" PRIu64 "  fence %" PRIu32 "  rescue %" PRIu32,
      s->magic == SKV_SHARED_MAGIC ? "complete" : "not complete", s->format,
      boot, id, s->recoveries, s->fence, s->rescue);
  if (rc == STRATAKV_OK)
    rc = skv_inspect_line(
        inspect, err,
        "tail %" PRIu64 "  durable %" PRIu64 "  visible %" PRIu64
        "  ingest %" PRIu64 "  head %06" PRIu64 ".manifest at %" PRIu64
        "  retired log %" PRIu64,
        s->tail, s->durable, s->visible, s->ingest, skv_head_file(s->head),
        skv_head_offset(s->head), s->retired_wal);
  if (rc == STRATAKV_OK)
    rc = skv_inspect_line(
        inspect, err,
        "epoch %" PRIu32 "  owner slot %" PRId64 "  entries in the log %" PRIu64
        "  requests %016" PRIx64,
        s->epoch, (int64_t)s->owner - 1, s->wal_entries, s->requests);
  return rc == STRATAKV_OK ? inspect_slots(inspect, s, err) : rc;
}

/* A copy of the page, aligned as it is: nothing in it is believed. */
static int inspect_shared(skv_inspect *inspect, const skv_buf *bytes,
                          skv_err *err) {
  if (bytes->size < sizeof(skv_shared))
    return skv_inspect_damage(inspect, bytes->size, err, "wrong size");
  skv_shared *page = skv_aligned(_Alignof(skv_shared), sizeof *page);
  if (!page) return skv_error_nomem(err);
  memcpy(page, bytes->data, sizeof *page);
  int rc = inspect_page(inspect, page, err);
  skv_free(page);
  return rc;
}

static int inspect_owners(skv_inspect *inspect, const skv_buf *bytes,
                          skv_err *err) {
  const char *p = (const char *)bytes->data, *end = p + bytes->size;
  const char *body = memchr(p, '\n', bytes->size);
  char want[64] = "";
  if (body)
    snprintf(want, sizeof want, "stratakv-owners 1 %016" PRIx64,
             skv_checksum(body + 1, (size_t)(end - body - 1), 0));
  bool ok = body && (size_t)(body - p) == strlen(want) &&
            memcmp(p, want, strlen(want)) == 0;
  int rc =
      skv_inspect_line(inspect, err, "OWNERS  checksum %s", ok ? "ok" : "BAD");
  if (rc == STRATAKV_OK && !ok)
    rc = skv_inspect_damage(inspect, 0, err, "checksum mismatch");
  for (p = body ? body + 1 : end; rc == STRATAKV_OK && p < end;) {
    char text[1000];
    const char *next = memchr(p, '\n', (size_t)(end - p));
    if (!next) next = end;
    skv_bytes_text(skv_slice_of(p, (size_t)(next - p)), text, sizeof text);
    rc = skv_inspect_line(inspect, err, "owner %s", text);
    p = next + 1;
  }
  return rc;
}

/* ---- Which file ---------------------------------------------------------- */

/* The start of the file, or all of a small one. */
static int inspect_read(skv_inspect *inspect, skv_buf *bytes, skv_err *err) {
  uint64_t size = skv_in_size(inspect->in);
  size_t n = size < INSPECT_SMALL ? (size_t)size : INSPECT_SMALL;
  uint8_t *p = skv_buf_reserve(bytes, n + 1);
  if (!p) return skv_error_nomem(err);
  int rc = skv_in_read(inspect->in, 0, p, n, err);
  if (rc == STRATAKV_OK) bytes->size = n;
  return rc;
}

static bool inspect_is(const skv_buf *bytes, const char *magic) {
  size_t n = strlen(magic);
  return bytes->size >= n && memcmp(bytes->data, magic, n) == 0;
}

static int inspect_file(skv_inspect *inspect, skv_err *err) {
  skv_buf bytes = {0};
  skv_name name = skv_name_parse(inspect->name);
  int rc = inspect_read(inspect, &bytes, err);
  if (rc != STRATAKV_OK) goto out;
  if (strcmp(inspect->name, "CURRENT") == 0 || inspect_is(&bytes, "STRATCUR"))
    rc = inspect_current(inspect, &bytes, err);
  else if (strcmp(inspect->name, "SHARED") == 0)
    rc = inspect_shared(inspect, &bytes, err);
  else if (strcmp(inspect->name, "OWNERS") == 0 ||
           inspect_is(&bytes, "stratakv-owners "))
    rc = inspect_owners(inspect, &bytes, err);
  else if (strcmp(inspect->name, "LOCK") == 0)
    rc = skv_inspect_line(inspect, err, "LOCK  holds no bytes, only locks");
  else if (name.kind == SKV_NAME_WAL || inspect_is(&bytes, "STRATWAL"))
    rc = skv_inspect_log(inspect, err);
  else if (name.kind == SKV_NAME_MANIFEST || inspect_is(&bytes, "STRATMAN"))
    rc = skv_inspect_manifest(inspect, err);
  else
    rc = skv_inspect_seg(inspect, err);
out:
  skv_buf_clear(&bytes);
  return rc;
}

/* The directory part of a path into dir; returns the file's name. */
static const char *inspect_split(const char *file, char dir[4096]) {
  const char *slash = strrchr(file, '/');
  if (!slash) {
    snprintf(dir, 4096, ".");
    return file;
  }
  size_t n = slash == file ? 1 : (size_t)(slash - file);
  snprintf(dir, 4096, "%.*s", (int)n, file);
  return slash + 1;
}

int skv_inspect_in(skv_env *env, const char *file, int entries,
                   stratakv_line line, void *arg, skv_err *err) {
  skv_inspect inspect = {.entries = entries != 0, .line = line, .arg = arg};
  skv_store *store = NULL;
  char dir[4096];
  if (!file || !*file || strlen(file) >= sizeof dir)
    return SKV_ERROR(err, STRATAKV_ERROR, "no path of a file");
  inspect.name = inspect_split(file, dir);
  int rc = skv_store_open(env, NULL, dir, 0, err, &store);
  if (rc == STRATAKV_OK)
    rc = skv_in_open_name(store, inspect.name, true, err, &inspect.in);
  if (rc == STRATAKV_NOTFOUND) rc = STRATAKV_CANTOPEN;
  if (rc != STRATAKV_OK && err) err->code = rc;
  if (rc == STRATAKV_OK) rc = inspect_file(&inspect, err);
  skv_in_close(inspect.in);
  skv_store_close(store);
  if (rc != STRATAKV_OK || !inspect.damaged) return rc;
  if (err) *err = inspect.first;
  return STRATAKV_CORRUPT;
}

int stratakv_inspect(const char *file, int entries, stratakv_line line,
                     void *arg, stratakv_error *err) {
  return skv_inspect_in(skv_env_posix(), file, entries, line, arg, err);
}
