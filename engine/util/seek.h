/*
 * Seeking something with a checksum among arbitrary bytes, in bounded time.
 *
 * Behind damage a record, edit or block may stand at every multiple of 8. One
 * is tried, by its checksum, where the fields look like it. Bytes that are made
 * for it look like a long one everywhere, and would be summed as often as there
 * are places.
 *
 * BOUND  Lengths fall into classes by powers of two. In each class as much may
 *   be summed as SKV_SEEK_FREE bytes, and SKV_SEEK_RATE for every byte of the
 *   file up to there, and one trial more. What is beyond is not tried but
 *   counted, and who seeks has to say so. A class for each, because many long
 *   pretenders shall not keep a short record from being found; the rate,
 *   because what stands further behind shall be found again.
 *
 * PAUSE  Told every SKV_SEEK_PAUSE bytes, passed or summed: its code ends the
 *   search. One skv_seek is for one file: what was spent counts on.
 */
#ifndef SKV_UTIL_SEEK_H
#define SKV_UTIL_SEEK_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/util/err.h"

#define SKV_SEEK_FREE ((uint64_t)64 << 20)
#define SKV_SEEK_RATE 4u
#define SKV_SEEK_PAUSE ((uint64_t)64 << 20)
#define SKV_SEEK_CLASSES 33 /* bits of a length */

typedef struct skv_pause {
  int (*call)(void *arg, skv_err *err); /* NULL: nobody asks */
  void *arg;
} skv_pause;

typedef struct skv_seek {
  skv_pause pause;
  uint64_t free;    /* SKV_SEEK_FREE, or what else is to be free */
  uint64_t work;    /* bytes since the last pause */
  uint64_t passed;  /* bytes, in all searches */
  uint64_t untried; /* places that were not tried, for what it would cost */
  uint64_t spent[SKV_SEEK_CLASSES];
} skv_seek;

static inline skv_seek skv_seek_new(skv_pause pause) {
  return (skv_seek){.pause = pause, .free = SKV_SEEK_FREE};
}

/* Whether what looks like `length` bytes at that offset may be tried. */
bool skv_seek_try(skv_seek *seek, uint64_t offset, uint64_t length);

/* The pause is due. */
int skv_seek_rest(skv_seek *seek, skv_err *err);

/* So many bytes were passed. */
static inline int skv_seek_step(skv_seek *seek, uint64_t bytes, skv_err *err) {
  seek->work += bytes;
  seek->passed += bytes;
  return seek->work < SKV_SEEK_PAUSE ? STRATAKV_OK : skv_seek_rest(seek, err);
}

#endif
