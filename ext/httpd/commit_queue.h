/*
 * The commit queue: one thread that commits what all requests write.
 *
 * PURPOSE  HTTP threads never wait for a sync. They queue a batch and turn to
 *   the next connection; the thread takes everything that is queued, hands
 *   the list to the engine for one group commit, and tells each writer. What
 *   arrives meanwhile forms the next group.
 *
 * ORDER  Batches are committed in the order in which they were added.
 */
#ifndef SKVD_COMMIT_QUEUE_H
#define SKVD_COMMIT_QUEUE_H

#include "stratakv.h"

typedef struct skvd_commit_queue skvd_commit_queue;

/* One write. The caller owns it, and leaves it alone until done is called. */
typedef struct skvd_commit {
  stratakv_batch *batch;    /* what to commit */
  void (*done)(void *arg);  /* called once, with the result in place; may
                                free the commit, must not block */
  void *arg;                /* its argument */
  stratakv_result result;   /* what became of it */
  stratakv_error error;     /* if result.code is neither OK nor
                                CONSTRAINT_CHECK */
  struct skvd_commit *next; /* the queue's */
} skvd_commit;

/* Start the thread; NULL on failure. */
skvd_commit_queue *skvd_commit_queue_start(stratakv_store *store);

/* Queue a commit. Any thread; done is called on the queue's thread, or at
 * once, with INTERRUPT, if the queue has been stopped. */
void skvd_commit_queue_add(skvd_commit_queue *queue, skvd_commit *commit);

/* Commit what is queued, refuse what comes, and end the thread. */
void skvd_commit_queue_stop(skvd_commit_queue *queue);
/* Free a stopped queue; NULL is allowed. */
void skvd_commit_queue_free(skvd_commit_queue *queue);

#endif
