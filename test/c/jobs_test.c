/*
 * The daemon's jobs (ext/httpd/jobs.h), with work that ends when it is let.
 *
 *   1  what ended last is kept, however long ago it began
 *   2  stopping: who waits is told, what was not begun is not done
 */
#include <pthread.h>
#include <string.h>

#include "ext/httpd/jobs.h"
#include "test/c/check.h"

/* ---- Work ---------------------------------------------------------------- */

static struct gate {
  pthread_mutex_t mutex;
  pthread_cond_t moved;
  bool is_open; /* for a verify; other work does not wait */
  unsigned begun[SKVD_JOB_KINDS];
  unsigned told; /* waiters */
} gate = {.mutex = PTHREAD_MUTEX_INITIALIZER,
          .moved = PTHREAD_COND_INITIALIZER};

/* In place of skvd_job_do. */
int __wrap_skvd_job_do(const skvd_job_work *work, stratakv_error *error,
                       json_t **result);

int __wrap_skvd_job_do(const skvd_job_work *work, stratakv_error *error,
                       json_t **result) {
  (void)error;
  pthread_mutex_lock(&gate.mutex);
  gate.begun[work->kind]++;
  pthread_cond_broadcast(&gate.moved);
  while (work->kind == SKVD_VERIFY && !gate.is_open)
    pthread_cond_wait(&gate.moved, &gate.mutex);
  pthread_mutex_unlock(&gate.mutex);
  *result = json_object();
  return STRATAKV_OK;
}

static void open_gate(void) {
  pthread_mutex_lock(&gate.mutex);
  gate.is_open = true;
  pthread_cond_broadcast(&gate.moved);
  pthread_mutex_unlock(&gate.mutex);
}

static void told(void *unused) {
  (void)unused;
  pthread_mutex_lock(&gate.mutex);
  gate.told++;
  pthread_cond_broadcast(&gate.moved);
  pthread_mutex_unlock(&gate.mutex);
}

static void wait_for(const unsigned *what, unsigned count) {
  pthread_mutex_lock(&gate.mutex);
  while (*what < count) pthread_cond_wait(&gate.moved, &gate.mutex);
  pthread_mutex_unlock(&gate.mutex);
}

/* ---- Tests --------------------------------------------------------------- */

static bool is_in_state(skvd_jobs *jobs, uint64_t id, const char *state) {
  json_t *json = skvd_jobs_describe(jobs, id);
  const char *is = json_string_value(json_object_get(json, "state"));
  bool same = is != NULL && strcmp(is, state) == 0;
  json_decref(json);
  return same;
}

static bool is_known(skvd_jobs *jobs, uint64_t id) {
  json_t *json = skvd_jobs_describe(jobs, id);
  json_decref(json);
  return json != NULL;
}

static void begin(skvd_jobs *jobs, skvd_job_kind kind, skvd_waiter *waiter,
                  uint64_t *id) {
  *waiter = (skvd_waiter){.done = told};
  CHECK(skvd_jobs_begin(jobs, kind, SKVD_JOB_AFTER, NULL, waiter, id) ==
        SKVD_NO_PROBLEM);
}

static void test_kept(void) {
  skvd_jobs *jobs = skvd_jobs_start(NULL, NULL);
  skvd_waiter slow, quick;
  uint64_t id, first, last;
  if (!CHECK(jobs != NULL)) return;
  begin(jobs, SKVD_VERIFY, &slow, &id);
  begin(jobs, SKVD_FLUSH, &quick, &first);
  wait_for(&gate.told, 1);
  for (unsigned i = 1; i <= SKVD_JOBS_KEPT; i++) {
    begin(jobs, SKVD_FLUSH, &quick, &last);
    wait_for(&gate.told, i + 1);
    CHECK(quick.is_finished && is_in_state(jobs, last, "done"));
  }
  CHECK(!is_known(jobs, first) && is_known(jobs, first + 1));
  CHECK(is_in_state(jobs, id, "running"));
  open_gate();
  wait_for(&gate.told, SKVD_JOBS_KEPT + 2);
  CHECK(slow.is_finished && slow.code == STRATAKV_OK);
  CHECK(is_in_state(jobs, id, "done"));
  CHECK(!is_known(jobs, first + 1) && is_known(jobs, first + 2));
  skvd_jobs_stop(jobs);
  skvd_jobs_free(jobs);
}

static void *stop_jobs(void *jobs) {
  skvd_jobs_stop(jobs);
  return NULL;
}

static void test_stop(void) {
  skvd_jobs *jobs = skvd_jobs_start(NULL, NULL);
  skvd_waiter running, queued;
  uint64_t id, behind, none;
  pthread_t stopper;
  if (!CHECK(jobs != NULL)) return;
  gate.is_open = false;
  gate.told = gate.begun[SKVD_VERIFY] = 0;
  begin(jobs, SKVD_VERIFY, &running, &id);
  wait_for(&gate.begun[SKVD_VERIFY], 1);
  begin(jobs, SKVD_VERIFY, &queued, &behind);
  CHECK(behind != id);
  CHECK(skvd_jobs_begin(jobs, SKVD_VERIFY, SKVD_JOB_ALONE, NULL, NULL, &none) ==
        SKVD_JOB_RUNNING);
  pthread_create(&stopper, NULL, stop_jobs, jobs);
  while (skvd_jobs_begin(jobs, SKVD_FLUSH, SKVD_JOB_AFTER, NULL, NULL, &none) !=
         SKVD_STOPPING) {
  }
  open_gate();
  pthread_join(stopper, NULL);
  CHECK(running.is_finished && running.code == STRATAKV_OK);
  CHECK(queued.is_finished && queued.code == STRATAKV_INTERRUPT);
  CHECK(gate.told == 2 && gate.begun[SKVD_VERIFY] == 1);
  CHECK(is_in_state(jobs, behind, "failed"));
  skvd_jobs_free(jobs);
}

int main(void) {
  test_kept();
  test_stop();
  return check_end();
}
