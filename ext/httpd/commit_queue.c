/* The thread of commit_queue.h. */
#include "ext/httpd/commit_queue.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* More than connections, as a rule; the rest forms the next group. */
#define COMMIT_GROUP 512

struct skvd_commit_queue {
  stratakv_store *store;
  pthread_t thread;

  pthread_mutex_t mutex; /* guards what follows */
  pthread_cond_t wake;   /* something was queued, or is_stopping set */
  skvd_commit *first;    /* the queue */
  skvd_commit **end;     /* where the next one is linked */
  bool is_stopping;

  /* The thread's own. */
  skvd_commit *group[COMMIT_GROUP];
  stratakv_batch *batches[COMMIT_GROUP];
  stratakv_result results[COMMIT_GROUP];
};

/* Wait for work and take up to a group of it; 0 when it is time to end. */
static size_t commit_take(skvd_commit_queue *queue) {
  size_t count = 0;
  pthread_mutex_lock(&queue->mutex);
  while (queue->first == NULL && !queue->is_stopping) {
    pthread_cond_wait(&queue->wake, &queue->mutex);
  }
  while (queue->first != NULL && count < COMMIT_GROUP) {
    queue->group[count++] = queue->first;
    queue->first = queue->first->next;
  }
  if (queue->first == NULL) queue->end = &queue->first;
  pthread_mutex_unlock(&queue->mutex);
  return count;
}

/* The engine gives one message, for the first failure. Others of the same
 * code have the same cause. */
static void commit_finish(skvd_commit *commit, const stratakv_result *result,
                          const stratakv_error *error) {
  commit->result = *result;
  if (result->code != STRATAKV_OK &&
      result->code != STRATAKV_CONSTRAINT_CHECK) {
    if (result->code == error->code) {
      commit->error = *error;
    } else {
      commit->error.code = result->code;
      snprintf(commit->error.message, sizeof commit->error.message,
               "the commit failed with code %d", result->code);
    }
  }
  commit->done(commit->arg);
}

static void *commit_main(void *arg) {
  skvd_commit_queue *queue = arg;
  size_t count;
  while ((count = commit_take(queue)) > 0) {
    stratakv_error error = {0, ""};
    for (size_t i = 0; i < count; i++) {
      queue->batches[i] = queue->group[i]->batch;
      /* Only what says OK of itself is. */
      queue->results[i] = (stratakv_result){.code = STRATAKV_ERROR};
    }
    stratakv_write(queue->store, queue->batches, count, &error, queue->results);
    for (size_t i = 0; i < count; i++) {
      commit_finish(queue->group[i], &queue->results[i], &error);
    }
  }
  return NULL;
}

skvd_commit_queue *skvd_commit_queue_start(stratakv_store *store) {
  skvd_commit_queue *queue = calloc(1, sizeof *queue);
  if (queue == NULL) return NULL;
  queue->store = store;
  queue->end = &queue->first;
  pthread_mutex_init(&queue->mutex, NULL);
  pthread_cond_init(&queue->wake, NULL);
  if (pthread_create(&queue->thread, NULL, commit_main, queue) != 0) {
    queue->is_stopping = true;
    skvd_commit_queue_free(queue);
    return NULL;
  }
  return queue;
}

void skvd_commit_queue_add(skvd_commit_queue *queue, skvd_commit *commit) {
  bool is_stopping;
  commit->next = NULL;
  pthread_mutex_lock(&queue->mutex);
  is_stopping = queue->is_stopping;
  if (!is_stopping) {
    *queue->end = commit;
    queue->end = &commit->next;
    pthread_cond_signal(&queue->wake);
  }
  pthread_mutex_unlock(&queue->mutex);
  if (is_stopping) {
    stratakv_error error = {STRATAKV_INTERRUPT, "the daemon is stopping"};
    stratakv_result result = {.code = STRATAKV_INTERRUPT};
    commit_finish(commit, &result, &error);
  }
}

void skvd_commit_queue_stop(skvd_commit_queue *queue) {
  pthread_mutex_lock(&queue->mutex);
  queue->is_stopping = true;
  pthread_cond_signal(&queue->wake);
  pthread_mutex_unlock(&queue->mutex);
  pthread_join(queue->thread, NULL);
}

void skvd_commit_queue_free(skvd_commit_queue *queue) {
  if (queue == NULL) return;
  pthread_cond_destroy(&queue->wake);
  pthread_mutex_destroy(&queue->mutex);
  free(queue);
}
