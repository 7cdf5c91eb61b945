/*
 * Health: is the store fit to be sent requests?
 *
 * PURPOSE  /readyz must know how long writes have been stalled, and the
 *   engine only says whether they are. The clock looks once a second.
 */
#ifndef SKVD_HEALTH_H
#define SKVD_HEALTH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "stratakv.h"

typedef struct skvd_health {
  atomic_bool is_readable;       /* the last look succeeded */
  atomic_bool is_read_only;      /* fenced */
  _Atomic int64_t stalled_since; /* ms; 0: not stalled */
} skvd_health;

/* Look at the store. */
void skvd_health_look(skvd_health *health, stratakv_store *store,
                      int64_t now_ms);

/* Have writes been stalled for over 10 s? */
bool skvd_health_is_stalled(const skvd_health *health, int64_t now_ms);

#endif
