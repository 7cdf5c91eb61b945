/*
 * Segments of the file backend: files written once from front to end, synced,
 * named, and from then on only read.
 *
 * WRITING  Appends are collected into 256 KiB writes. Write-back starts every
 *   4 MiB, so that the sync at the end finds little left to do and does not
 *   hold up the log's syncs. After a failed write the object only repeats
 *   that it failed; its file is removed by whoever made the name.
 *
 * READING  By mapping, with the descriptor closed (P18), or by pread. Sizes
 *   are checked against the manifest's before anything is read (INV-8).
 *
 * NOT HERE  A segment's format (seg/), which segments live (tree/).
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "engine/store/store.h"
#include "engine/util/alloc.h"

#define OUT_BUFFER ((size_t)256 * 1024)
#define OUT_START ((uint64_t)4 * 1024 * 1024) /* bytes between write-backs */

struct skv_out {
  skv_env *env;             /* the store's */
  skv_file *file;           /* owned */
  uint8_t *buffer;          /* OUT_BUFFER bytes, the file's next; owned */
  size_t used;              /* of them */
  uint64_t written;         /* bytes in the file */
  uint64_t started;         /* those whose write-back was started */
  int rc;                   /* the first failure */
  char name[SKV_NAME_SIZE]; /* temporary */
};

struct skv_in {
  skv_env *env;             /* the store's */
  skv_file *file;           /* owned; NULL if mapped */
  void *map;                /* owned; NULL if not mapped */
  uint64_t size;            /* bytes */
  char name[SKV_NAME_SIZE]; /* when it was opened */
};

/* ---- Writing ----------------------------------------------------------- */

int skv_out_create(skv_store *store, const skv_name *tmp, skv_err *err,
                   skv_out **out) {
  int rc = STRATAKV_OK;
  assert(tmp->kind == SKV_NAME_TMP);
  skv_out *o = skv_new(sizeof *o, &rc);
  if (o) o->buffer = skv_malloc(OUT_BUFFER);
  if (!o || !o->buffer) {
    rc = skv_error_nomem(err);
    goto out;
  }
  o->env = skv_store_env(store);
  skv_name_format(tmp, o->name);
  rc = o->env->file_open(skv_store_dir(store), o->name,
                         SKV_FILE_WRITE | SKV_FILE_CREATE | SKV_FILE_EXCLUSIVE,
                         err, &o->file);
  if (rc != STRATAKV_OK) o->file = NULL;

out:
  if (rc != STRATAKV_OK) {
    skv_out_close(o);
    o = NULL;
  }
  *out = o;
  return rc;
}

static int out_write(skv_out *out, const void *data, size_t size,
                     skv_err *err) {
  out->rc = out->env->file_write(out->file, out->written, data, size, err);
  if (out->rc != STRATAKV_OK) return out->rc;
  out->written += size;
  uint64_t pending = out->written - out->started;
  if (pending >= OUT_START) {
    out->env->file_sync_start(out->file, out->started, pending);
    out->started = out->written;
  }
  return STRATAKV_OK;
}

static int out_flush(skv_out *out, skv_err *err) {
  if (out->used == 0) return STRATAKV_OK;
  size_t used = out->used;
  out->used = 0;
  return out_write(out, out->buffer, used, err);
}

static int out_failed(const skv_out *out, skv_err *err) {
  return SKV_ERROR(err, out->rc, "an earlier write to %s failed", out->name);
}

int skv_out_append(skv_out *out, const void *data, size_t size, skv_err *err) {
  const uint8_t *from = data;
  if (out->rc != STRATAKV_OK) return out_failed(out, err);
  while (size > 0) {
    size_t n = OUT_BUFFER - out->used;
    if (n > size) n = size;
    if (n == OUT_BUFFER) { /* a whole buffer needs no copy */
      int rc = out_write(out, from, n, err);
      if (rc != STRATAKV_OK) return rc;
    } else {
      memcpy(out->buffer + out->used, from, n);
      out->used += n;
    }
    from += n;
    size -= n;
    if (out->used == OUT_BUFFER) {
      int rc = out_flush(out, err);
      if (rc != STRATAKV_OK) return rc;
    }
  }
  return STRATAKV_OK;
}

uint64_t skv_out_size(const skv_out *out) { return out->written + out->used; }

int skv_out_sync(skv_out *out, skv_err *err) {
  if (out->rc != STRATAKV_OK) return out_failed(out, err);
  int rc = out_flush(out, err);
  if (rc == STRATAKV_OK) rc = out->env->file_sync(out->file, err);
  out->rc = rc; /* a failed sync is not tried again */
  return rc;
}

void skv_out_close(skv_out *out) {
  if (!out) return;
  if (out->file) out->env->file_close(out->file);
  skv_free(out->buffer);
  skv_free(out);
}

static void seg_file_name(uint64_t number, char text[SKV_NAME_SIZE]) {
  skv_name name = {.kind = SKV_NAME_SEG, .number = number};
  skv_name_format(&name, text);
}

int skv_seg_name(skv_store *store, const skv_name *tmp, uint64_t number,
                 skv_err *err) {
  skv_env *env = skv_store_env(store);
  skv_dir *dir = skv_store_dir(store);
  char from[SKV_NAME_SIZE], to[SKV_NAME_SIZE];
  skv_file *file = NULL;
  skv_err why;
  skv_name_format(tmp, from);
  seg_file_name(number, to);
  int rc = env->dir_rename(dir, from, to, &why);
  if (rc == STRATAKV_NOTFOUND) {
    rc = env->file_open(dir, to, 0, NULL, &file);
    if (rc == STRATAKV_OK)
      env->file_close(file);
    else
      rc = STRATAKV_NOTFOUND; /* `why` names the tmp */
  }
  if (rc != STRATAKV_OK && err) *err = why;
  return rc;
}

/* ---- Reading ----------------------------------------------------------- */

static int in_check_size(const skv_in *in, uint64_t expected, skv_err *err) {
  if (in->size == expected && expected > 0) return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_CORRUPT,
                   "wrong size of %s: %" PRIu64 " bytes instead of %" PRIu64,
                   in->name, in->size, expected);
}

typedef enum in_mode { IN_READ, IN_MAP, IN_MAP_OR_READ } in_mode;

static int in_map(skv_in *in, in_mode mode, skv_err *err) {
  skv_err why = {0};
  int rc = in->env->file_map(in->file, (size_t)in->size, false, false, &why,
                             &in->map);
  if (rc != STRATAKV_OK) in->map = NULL;
  /* Too many mappings, or no address space. */
  if (rc == STRATAKV_NOMEM && mode == IN_MAP_OR_READ) return STRATAKV_OK;
  if (rc != STRATAKV_OK && err) *err = why;
  if (rc != STRATAKV_OK) return rc;
  in->env->file_close(in->file);
  in->file = NULL;
  return STRATAKV_OK;
}

/* size NULL: whatever it is. */
static int in_open(skv_store *store, const char *name, const uint64_t *size,
                   in_mode mode, skv_err *err, skv_in **out) {
  int rc = STRATAKV_OK;
  skv_in *in = skv_new(sizeof *in, &rc);
  *out = NULL;
  if (!in) return skv_error_nomem(err);
  in->env = skv_store_env(store);
  snprintf(in->name, sizeof in->name, "%s", name);
  rc = in->env->file_open(skv_store_dir(store), name, 0, err, &in->file);
  if (rc != STRATAKV_OK) {
    in->file = NULL;
    goto out;
  }
  rc = in->env->file_size(in->file, err, &in->size);
  if (rc == STRATAKV_OK && size) rc = in_check_size(in, *size, err);
  if (rc == STRATAKV_OK && mode != IN_READ && in->size > 0)
    rc = in_map(in, mode, err);

out:
  if (rc != STRATAKV_OK) {
    skv_in_close(in);
    in = NULL;
  }
  *out = in;
  return rc;
}

int skv_in_open(skv_store *store, uint64_t number, const skv_name *tmp,
                uint64_t size, bool map, skv_err *err, skv_in **out) {
  char text[SKV_NAME_SIZE];
  if (tmp)
    skv_name_format(tmp, text);
  else
    seg_file_name(number, text);
  return in_open(store, text, &size, map ? IN_MAP_OR_READ : IN_READ, err, out);
}

int skv_in_open_name(skv_store *store, const char *name, bool map, skv_err *err,
                     skv_in **out) {
  return in_open(store, name, NULL, map ? IN_MAP : IN_READ, err, out);
}

void skv_in_close(skv_in *in) {
  if (!in) return;
  if (in->map) in->env->unmap(in->env, in->map, (size_t)in->size);
  if (in->file) in->env->file_close(in->file);
  skv_free(in);
}

uint64_t skv_in_size(const skv_in *in) { return in->size; }

const uint8_t *skv_in_map(const skv_in *in) { return in->map; }

const char *skv_in_name(const skv_in *in) { return in->name; }

int skv_in_read(skv_in *in, uint64_t offset, void *data, size_t size,
                skv_err *err) {
  size_t got = 0;
  if (offset > in->size || size > in->size - offset)
    return skv_error_corrupt(err, in->name, offset, "read beyond the end");
  if (size == 0) return STRATAKV_OK;
  if (in->map) {
    memcpy(data, (const uint8_t *)in->map + offset, size);
    return STRATAKV_OK;
  }
  int rc = in->env->file_read(in->file, offset, data, size, err, &got);
  if (rc == STRATAKV_OK && got != size)
    rc = skv_error_corrupt(err, in->name, offset + got, "unexpected end");
  return rc;
}
