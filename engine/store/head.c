/*
 * The head in the file backend: CURRENT, and the manifest that it names.
 *
 * SWAP  A new manifest is complete and durable under its own name before
 *   CURRENT is renamed over, so CURRENT names a whole manifest at every
 *   moment (INV-7). CURRENT's temporary file is slot ff, incarnation the
 *   manifest's number: no process has that slot, so after a crash it is an
 *   orphan like any other. Only the holder of HEAD makes one, and whoever
 *   removes one of slot ff holds HEAD too.
 *
 * READING  CURRENT is judged in the order magic, checksum, format, length: a
 *   number of a format is believed only if the checksum of the first 64 bytes
 *   holds, which stands there in every format. Else it is damage.
 *
 * NOT HERE  The manifest's bytes (tree/manifest.h); the shared page, which
 *   tells other processes the head's place (db/).
 */
#include <inttypes.h>
#include <stdio.h>

#include "engine/store/store.h"
#include "engine/util/hash.h"
#include "engine/util/point.h"

#define HEAD_CURRENT "CURRENT"
#define HEAD_MAGIC "STRATCUR"
#define HEAD_SIZE 64u
#define HEAD_TMP_SLOT 0xffu
/* Limits of skv_head_pos. */
#define HEAD_FILE_LIMIT (UINT64_C(1) << 24)
#define HEAD_OFFSET_LIMIT (UINT64_C(1) << 40)

static void head_manifest_name(uint64_t file, char text[SKV_NAME_SIZE]) {
  skv_name name = {.kind = SKV_NAME_MANIFEST, .number = file};
  skv_name_format(&name, text);
}

static int head_open_manifest(skv_store *store, uint64_t file, int flags,
                              skv_err *err, skv_file **out) {
  char text[SKV_NAME_SIZE];
  head_manifest_name(file, text);
  *out = NULL;
  return skv_store_env(store)->file_open(skv_store_dir(store), text, flags, err,
                                         out);
}

/* ---- CURRENT ----------------------------------------------------------- */

static void head_encode(const uint8_t store_id[16], uint64_t manifest,
                        uint8_t bytes[HEAD_SIZE]) {
  memset(bytes, 0, HEAD_SIZE);
  memcpy(bytes, HEAD_MAGIC, 8);
  skv_put32(bytes + 8, SKV_FORMAT);
  memcpy(bytes + 16, store_id, 16);
  skv_put64(bytes + 32, manifest);
  skv_put64(bytes + 56, skv_checksum(bytes, 56, 0));
}

/* INV-8: bytes has the first `got` of the file's `size` bytes. */
static int head_check(const uint8_t bytes[HEAD_SIZE], size_t got, uint64_t size,
                      skv_err *err) {
  if (got < 8 || memcmp(bytes, HEAD_MAGIC, 8) != 0)
    return SKV_ERROR(err, STRATAKV_NOTADB, "%s is not a StrataKV file",
                     HEAD_CURRENT);
  if (got != HEAD_SIZE)
    return skv_error_corrupt(err, HEAD_CURRENT, got, "wrong size");
  uint32_t format = skv_get32(bytes + 8);
  if (!skv_checksum_ok(bytes, 56, 0, skv_get64(bytes + 56))) {
    char what[64] = "checksum mismatch";
    if (format != SKV_FORMAT)
      snprintf(what, sizeof what, "checksum mismatch, of format %" PRIu32,
               format);
    return skv_error_corrupt(err, HEAD_CURRENT, 0, what);
  }
  if (format != SKV_FORMAT)
    return SKV_ERROR(err, STRATAKV_NOTADB,
                     "%s has format %" PRIu32 ", this program reads %d",
                     HEAD_CURRENT, format, SKV_FORMAT);
  if (size != HEAD_SIZE)
    return skv_error_corrupt(err, HEAD_CURRENT, got, "wrong size");
  if (skv_get32(bytes + 12) != 0 || skv_get64(bytes + 40) != 0 ||
      skv_get64(bytes + 48) != 0)
    return skv_error_corrupt(err, HEAD_CURRENT, 12, "reserved bytes in use");
  if (skv_get64(bytes + 32) >= HEAD_FILE_LIMIT)
    return skv_error_corrupt(err, HEAD_CURRENT, 32,
                             "manifest number too large");
  return STRATAKV_OK;
}

static int head_load(skv_store *store, skv_err *err, uint8_t bytes[HEAD_SIZE],
                     size_t *got, uint64_t *size) {
  skv_env *env = skv_store_env(store);
  skv_file *file = NULL;
  memset(bytes, 0, HEAD_SIZE);
  *got = 0;
  int rc = env->file_open(skv_store_dir(store), HEAD_CURRENT, 0, err, &file);
  if (rc != STRATAKV_OK) return rc;
  rc = env->file_size(file, err, size);
  if (rc == STRATAKV_OK)
    rc = env->file_read(file, 0, bytes, HEAD_SIZE, err, got);
  env->file_close(file);
  return rc;
}

int skv_head_current(skv_store *store, skv_err *err, uint8_t store_id[16],
                     uint64_t *manifest) {
  uint8_t bytes[HEAD_SIZE];
  uint64_t size = 0;
  size_t got = 0;
  memset(store_id, 0, 16);
  *manifest = 0;
  int rc = head_load(store, err, bytes, &got, &size);
  if (rc == STRATAKV_OK) rc = head_check(bytes, got, size, err);
  if (rc == STRATAKV_OK) {
    memcpy(store_id, bytes + 16, 16);
    *manifest = skv_get64(bytes + 32);
  }
  return rc;
}

bool skv_head_is_newer(const uint8_t bytes[64]) {
  return skv_get32(bytes + 8) > SKV_FORMAT &&
         skv_checksum_ok(bytes, 56, 0, skv_get64(bytes + 56));
}

bool skv_head_current_is_newer(skv_store *store) {
  uint8_t bytes[HEAD_SIZE];
  uint64_t size = 0;
  size_t got = 0;
  return head_load(store, NULL, bytes, &got, &size) == STRATAKV_OK &&
         memcmp(bytes, HEAD_MAGIC, 8) == 0 && skv_head_is_newer(bytes);
}

/* ---- The manifest ------------------------------------------------------ */

static int head_read_open(skv_env *env, skv_file *file, uint64_t number,
                          uint64_t offset, skv_err *err, skv_buf *bytes) {
  char text[SKV_NAME_SIZE];
  uint64_t size = 0;
  size_t got = 0;
  head_manifest_name(number, text);
  int rc = env->file_size(file, err, &size);
  if (rc != STRATAKV_OK) return rc;
  if (size < offset)
    return skv_error_corrupt(err, text, size, "unexpected end");
  if (size >= HEAD_OFFSET_LIMIT)
    return skv_error_corrupt(err, text, HEAD_OFFSET_LIMIT, "too many bytes");
  uint8_t *to = skv_buf_reserve(bytes, (size_t)(size - offset));
  if (!to) return skv_error_nomem(err);
  rc = env->file_read(file, offset, to, (size_t)(size - offset), err, &got);
  if (rc == STRATAKV_OK) bytes->size = got;
  return rc;
}

int skv_head_read(skv_store *store, uint64_t file, uint64_t offset,
                  skv_err *err, skv_buf *bytes) {
  skv_env *env = skv_store_env(store);
  skv_file *manifest = NULL;
  bytes->size = 0;
  int rc = head_open_manifest(store, file, 0, err, &manifest);
  if (rc != STRATAKV_OK) return rc;
  rc = head_read_open(env, manifest, file, offset, err, bytes);
  env->file_close(manifest);
  return rc;
}

/* What skv_head_pos cannot express must not be written. */
static int head_check_place(uint64_t file, uint64_t end, skv_err *err) {
  if (file < HEAD_FILE_LIMIT && end < HEAD_OFFSET_LIMIT) return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_FULL,
                   "manifest %" PRIu64 " cannot grow to %" PRIu64 " bytes",
                   file, end);
}

static int head_put(skv_store *store, uint64_t file, uint64_t offset,
                    const void *data, size_t size, bool whole, skv_err *err) {
  skv_env *env = skv_store_env(store);
  skv_file *manifest = NULL;
  int rc = head_check_place(file, offset + size, err);
  if (rc != STRATAKV_OK) return rc;
  int flags = SKV_FILE_WRITE | (whole ? SKV_FILE_CREATE : 0);
  rc = head_open_manifest(store, file, flags, err, &manifest);
  if (rc != STRATAKV_OK) return rc;
  if (whole) rc = env->file_truncate(manifest, 0, err);
  if (rc == STRATAKV_OK && size)
    rc = env->file_write(manifest, offset, data, size, err);
  SKV_POINT("manifest.written");
  if (rc == STRATAKV_OK) rc = env->file_sync(manifest, err);
  SKV_POINT("manifest.synced");
  env->file_close(manifest);
  return rc;
}

int skv_head_append(skv_store *store, uint64_t file, uint64_t offset,
                    const void *data, size_t size, skv_err *err) {
  return head_put(store, file, offset, data, size, false, err);
}

int skv_head_replace(skv_store *store, const uint8_t store_id[16],
                     uint64_t file, const void *data, size_t size,
                     skv_err *err) {
  SKV_OPERATION("swap");
  const skv_name name = {.kind = SKV_NAME_MANIFEST, .number = file};
  const skv_name tmp = {.kind = SKV_NAME_TMP,
                        .slot = HEAD_TMP_SLOT,
                        .incarnation = (uint32_t)file};
  uint8_t current[HEAD_SIZE];
  int rc = head_put(store, file, 0, data, size, true, err);
  if (rc == STRATAKV_OK) rc = skv_store_sync_names(store, err);
  if (rc != STRATAKV_OK) { /* CURRENT does not name it: it may go */
    skv_store_remove(store, &name, NULL);
    return rc;
  }
  head_encode(store_id, file, current);
  SKV_POINT("manifest.replaceable");
  return skv_store_write_file(store, HEAD_CURRENT, &tmp, current, HEAD_SIZE,
                              err);
}
