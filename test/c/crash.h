/*
 * What a crash may leave of a recorded file system.
 *
 * DEATH  Everybody dies and the machine goes on: all that was done is there,
 *   of a store into a mapping perhaps only the first bytes. The shared page is
 *   of this boot.
 *
 * POWER CUT  Of the operations that no sync made durable each was done, not
 *   done, or done in part. A crash is one choice for each of them (C3 to C6):
 *     writes     torn at sectors of 512 or 4,096 bytes, any subset of them;
 *                cut off in the middle (a page on its way to the disk while
 *                it was being stored to); not there though the file has its
 *                size, zeros or what an old log left there standing in its
 *                place
 *     names      each creation, rename and removal on its own, so that a
 *                removal overtakes a rename; a rename seen at one end only
 *
 * CRASHES  of N operations are numbered: none kept, all kept, all but one, only
 *   one, one file's first ones with all or nothing of the others; then those
 *   drawn by chance. CRASH_DRAWN says how many kinds of these there are.
 */
#ifndef TEST_C_CRASH_H
#define TEST_C_CRASH_H

#include "engine/util/hash.h"
#include "test/c/env_record.h"

/* What became of an operation. */
#define CRASH_DROP 0
#define CRASH_KEEP 1
#define CRASH_TORN_512 2
#define CRASH_TORN_4096 3
#define CRASH_CUT_OFF 4
#define CRASH_ZEROS 5      /* the size only */
#define CRASH_STALE 6      /* the size, with an old log's bytes */
#define CRASH_BOTH_NAMES 7 /* a rename: the new name there, the old one too */
#define CRASH_NO_NAME 8 /* a rename: the old name gone, the new one not there */

/* The operations that are not durable, with a store that is under way. */
typedef struct crash {
  const recording *r;
  const record_op **ops;
  uint8_t *what; /* CRASH_*, one for each */
  size_t count;
  skv_prng *rng;
} crash;

static inline crash crash_begin(const recording *r, skv_prng *rng) {
  crash c = {.r = r, .count = r->op_count, .rng = rng};
  c.ops = fixture_alloc((c.count + 1) * sizeof *c.ops);
  for (size_t i = 0; i < c.count; i++) c.ops[i] = &r->ops[i];
  if (r->storing != NULL) c.ops[c.count++] = r->storing;
  c.what = fixture_alloc(c.count);
  return c;
}

static inline void crash_end(crash *c) {
  free(c->ops);
  free(c->what);
}

/* ---- Choosing ---------------------------------------------------------- */

static inline void crash_fill(crash *c, uint8_t what) {
  memset(c->what, what, c->count);
}

static inline bool crash_is_name(const record_op *op) {
  return op->kind >= RECORD_LINK;
}

static inline bool crash_has_data(const record_op *op) {
  return op->kind == RECORD_WRITE || op->kind == RECORD_STORED;
}

static inline void crash_draw_subset(crash *c) {
  unsigned odds = 1 + (unsigned)skv_prng_below(c->rng, 7);
  for (size_t i = 0; i < c->count; i++)
    c->what[i] = skv_prng_below(c->rng, 8) < odds ? CRASH_KEEP : CRASH_DROP;
}

/* Some writes, of those that there are, are left in part. */
static inline void crash_draw_data(crash *c, uint8_t what, unsigned one_in) {
  for (size_t i = 0; i < c->count; i++)
    if (crash_has_data(c->ops[i]) && skv_prng_below(c->rng, one_in) == 0)
      c->what[i] = what;
}

/* The file's operations but the last are kept, so that the tear is in it. */
static inline void crash_draw_last(crash *c, uint8_t what) {
  crash_fill(c, CRASH_KEEP);
  for (size_t i = c->count; i-- > 0;)
    if (crash_has_data(c->ops[i])) {
      c->what[i] = what;
      return;
    }
}

static inline void crash_draw_names(crash *c) {
  crash_fill(c, skv_prng_below(c->rng, 2) ? CRASH_KEEP : CRASH_DROP);
  for (size_t i = 0; i < c->count; i++) {
    if (!crash_is_name(c->ops[i])) continue;
    uint64_t x = skv_prng_below(c->rng, 4);
    c->what[i] = x < 2 ? CRASH_DROP : CRASH_KEEP;
    if (c->ops[i]->kind == RECORD_RENAME && skv_prng_below(c->rng, 4) == 0)
      c->what[i] = x < 2 ? CRASH_BOTH_NAMES : CRASH_NO_NAME;
  }
}

/* Removals overtake whatever else happens to names. */
static inline void crash_draw_unlinks(crash *c) {
  crash_fill(c, skv_prng_below(c->rng, 2) ? CRASH_KEEP : CRASH_DROP);
  for (size_t i = 0; i < c->count; i++)
    if (crash_is_name(c->ops[i]))
      c->what[i] = c->ops[i]->kind == RECORD_UNLINK ? CRASH_KEEP : CRASH_DROP;
}

#define CRASH_DRAWN 9

static inline void crash_draw(crash *c, unsigned kind) {
  switch (kind) {
  case 0: crash_draw_subset(c); break;
  case 1: crash_draw_last(c, CRASH_TORN_512); break;
  case 2: crash_draw_last(c, CRASH_TORN_4096); break;
  case 3: crash_draw_last(c, CRASH_CUT_OFF); break;
  case 4:
    crash_draw_subset(c);
    crash_draw_data(c, CRASH_TORN_512, 2);
    break;
  case 5:
    crash_draw_subset(c);
    crash_draw_data(c, CRASH_TORN_4096, 2);
    break;
  case 6:
    crash_draw_subset(c);
    crash_draw_data(c, skv_prng_below(c->rng, 2) ? CRASH_ZEROS : CRASH_STALE,
                    2);
    break;
  case 7: crash_draw_names(c); break;
  default: crash_draw_unlinks(c); break;
  }
}

/* How many crashes are numbered, with `drawn` of each kind that is drawn. */
static inline size_t crash_numbers(const crash *c, size_t drawn) {
  return 2 + 4 * c->count + drawn * CRASH_DRAWN;
}

static inline void crash_choose(crash *c, size_t number) {
  crash_fill(c, number == 0 ? CRASH_DROP : CRASH_KEEP);
  if (number < 2) return;
  number -= 2;
  size_t i = c->count ? number % c->count : 0;
  switch (c->count ? number / c->count : 4) {
  case 0: c->what[i] = CRASH_DROP; return;
  case 1:
    crash_fill(c, CRASH_DROP);
    c->what[i] = CRASH_KEEP;
    return;
  case 2: crash_fill(c, CRASH_DROP); break;
  case 3: break;
  default: crash_draw(c, (number - 4 * c->count) % CRASH_DRAWN); return;
  }
  for (size_t o = 0; o < c->count; o++) /* of this file the first up to i */
    if (c->ops[o]->inode == c->ops[i]->inode)
      c->what[o] = o <= i ? CRASH_KEEP : CRASH_DROP;
}

/* ---- Building ---------------------------------------------------------- */

static inline void crash_tear(const crash *c, record_bytes *b,
                              const record_op *op, uint64_t unit) {
  uint64_t end = op->offset + op->size;
  unsigned odds = 1 + (unsigned)skv_prng_below(c->rng, 3);
  for (uint64_t at = op->offset; at < end;) {
    uint64_t next = (at / unit + 1) * unit;
    if (next > end) next = end;
    if (skv_prng_below(c->rng, 4) < odds)
      record_put(b, at, op->data + (at - op->offset), next - at);
    at = next;
  }
}

/* The file has its size, and what was to stand there does not. */
static inline void crash_lose(const crash *c, record_bytes *b,
                              const record_op *op, bool stale) {
  uint64_t from = b->size, end = op->offset + op->size;
  if (end <= from) return;
  record_resize(b, end);
  if (!stale || c->r->stale.size <= from) return;
  if (end > c->r->stale.size) end = c->r->stale.size;
  record_put(b, from, c->r->stale.data + from, end - from);
}

static inline void crash_apply(const crash *c, record_bytes *b, size_t i) {
  const record_op *op = c->ops[i];
  switch (c->what[i]) {
  case CRASH_DROP: break;
  case CRASH_KEEP: record_do(b, op); break;
  case CRASH_TORN_512: crash_tear(c, b, op, 512); break;
  case CRASH_TORN_4096: crash_tear(c, b, op, 4096); break;
  case CRASH_CUT_OFF:
    record_put(b, op->offset, op->data, skv_prng_below(c->rng, op->size + 1));
    break;
  default: crash_lose(c, b, op, c->what[i] == CRASH_STALE);
  }
}

static inline record_names crash_names(const crash *c) {
  record_names names = {0};
  for (size_t i = 0; i < c->r->name_count; i++) {
    const record_name *n = &c->r->names[i];
    record_names_set(&names, n->dir, n->name, n->inode);
  }
  for (size_t i = 0; i < c->count; i++) {
    const record_op *op = c->ops[i];
    if (!crash_is_name(op)) continue;
    if (c->what[i] == CRASH_KEEP) record_do_names(&names, op);
    if (c->what[i] == CRASH_BOTH_NAMES)
      record_names_set(&names, op->inode, op->to, op->target);
    if (c->what[i] == CRASH_NO_NAME)
      record_names_remove(&names, op->inode, op->from, op->target);
  }
  return names;
}

/* The path of a directory by these names; false if nothing leads to it. */
static inline bool crash_path(const crash *c, const record_names *names,
                              uint64_t dir, char path[16]) {
  char above[16] = "";
  for (size_t i = 0; i < names->count; i++) {
    const record_name *n = &names->list[i];
    if (n->inode != dir) continue;
    if (n->dir != c->r->fs->root->inode && !crash_path(c, names, n->dir, above))
      return false;
    int size = snprintf(path, 16, "%s/%s", above, n->name);
    if (size >= 16) abort();
    return true;
  }
  return false;
}

/* What is found of SHARED after a power cut: anything, but never the id of the
 * boot that is to come. */
static inline void crash_shared_page(const crash *c, const record_file *file,
                                     fixture_file *to) {
  uint64_t how = skv_prng_below(c->rng, 3);
  for (const skv_mem_node *n = c->r->fs->nodes; n != NULL && how == 0;
       n = n->next)
    if (n->inode == file->inode && n->size == to->size && n->size > 0)
      memcpy(to->bytes, n->bytes, n->size);
  if (how == 1) skv_prng_fill(c->rng, to->bytes, to->size);
}

static inline void crash_add(const crash *c, fixture_image *image,
                             const record_name *name, const char *path) {
  const record_file *file = NULL;
  for (size_t i = 0; i < c->r->file_count; i++)
    if (c->r->files[i].inode == name->inode) file = &c->r->files[i];
  if (file == NULL) return; /* a directory */
  record_bytes b = record_bytes_copy(&file->base);
  for (size_t i = 0; i < c->count; i++)
    if (c->ops[i]->inode == name->inode) crash_apply(c, &b, i);
  fixture_file *to = fixture_add(image, name->name, b.data, b.size);
  snprintf(to->dir, sizeof to->dir, "%s", path);
  if (file->is_shared_page) crash_shared_page(c, file, to);
  free(b.data);
}

/* What the crash that was chosen leaves. */
static inline fixture_image crash_image(const crash *c) {
  fixture_image image = {0};
  record_names names = crash_names(c);
  char path[16];
  for (size_t i = 0; i < names.count; i++)
    if (names.list[i].dir != c->r->fs->root->inode &&
        crash_path(c, &names, names.list[i].dir, path))
      crash_add(c, &image, &names.list[i], path);
  free(names.list);
  return image;
}

/* All processes die at this moment. */
static inline fixture_image crash_death(const recording *r, skv_prng *rng) {
  fixture_image image = {0};
  for (const skv_mem_name *name = r->fs->names; name; name = name->next) {
    const skv_mem_node *n = name->node;
    if (n->is_dir) continue;
    fixture_file *to = fixture_add(&image, name->text, n->bytes, n->size);
    snprintf(to->dir, sizeof to->dir, "/%s",
             skv_mem_name_of(r->fs, name->dir)->text);
    const record_op *op = r->storing;
    if (op == NULL || op->inode != n->inode) continue;
    uint64_t done = skv_prng_below(rng, op->size + 1);
    for (size_t i = 0; i < r->file_count; i++) /* from there on as before */
      if (r->files[i].inode == n->inode)
        memcpy(to->bytes + op->offset + done,
               r->files[i].now.data + op->offset + done, op->size - done);
  }
  return image;
}

/* A number for the image, the same whatever the order of its files. What a
 * power cut leaves of SHARED does not count. */
static inline uint64_t crash_hash(const fixture_image *image, bool death) {
  uint64_t sum = death;
  for (size_t i = 0; i < image->count; i++) {
    const fixture_file *file = &image->files[i];
    if (!death && strcmp(file->name, "SHARED") == 0) continue;
    uint64_t seed = skv_checksum(file->dir, strlen(file->dir), file->size);
    seed = skv_checksum(file->name, strlen(file->name), seed);
    sum += skv_checksum(file->bytes, file->size, seed);
  }
  return sum;
}

#endif
