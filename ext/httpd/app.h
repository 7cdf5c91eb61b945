/*
 * The daemon as a whole: what every request can reach.
 *
 * Made by main.c before the first connection and taken down after the last
 * one; but for the atomics nothing in it changes in between.
 */
#ifndef SKVD_APP_H
#define SKVD_APP_H

#include <stdatomic.h>

#include "ext/httpd/body.h"
#include "ext/httpd/clock.h"
#include "ext/httpd/commit_queue.h"
#include "ext/httpd/health.h"
#include "ext/httpd/jobs.h"
#include "ext/httpd/options.h"
#include "stratakv.h"

typedef struct skvd_app {
  const skvd_options *options;
  stratakv_store *store;
  skvd_commit_queue *commits; /* every write goes here */
  skvd_jobs *jobs;            /* long work goes here */
  skvd_clock *clock;          /* knows every connection */
  skvd_health health;         /* for /readyz */
  skvd_body_pool bodies;      /* --body-memory */
  atomic_bool is_stopping;    /* SIGTERM came */
  atomic_uint in_flight;      /* requests between head and end */
} skvd_app;

#endif
