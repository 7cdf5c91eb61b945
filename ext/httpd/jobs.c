/* The threads and the history of jobs.h. */
#include "ext/httpd/jobs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "ext/httpd/clock.h"
#include "ext/httpd/log.h"

#define JOBS_WAIT_MS 55000
#define JOBS_NAME_SIZE 65

typedef enum job_state {
  JOB_QUEUED,
  JOB_RUNNING,
  JOB_DONE,
  JOB_FAILED
} job_state;

typedef struct job {
  struct job *next; /* in the list of all */
  skvd_jobs *jobs;
  uint64_t id;
  skvd_job_kind kind;
  char name[JOBS_NAME_SIZE]; /* of a backup */
  atomic_int permille;       /* how far it is */
  job_state state;
  skvd_waiter *waiters;
  int code;             /* ended */
  stratakv_error error; /* failed */
  json_t *result;       /* done: an object; NULL is an empty one */
} job;

/* The thread of one kind. */
typedef struct job_lane {
  skvd_jobs *jobs;
  skvd_job_kind kind;
  pthread_t thread;
  bool is_started;
  pthread_cond_t wake; /* queued or is_stopping was set */
  job *queued;         /* to be run next */
  job *running;
} job_lane;

struct skvd_jobs {
  stratakv_store *store;
  const char *base;         /* of backups */
  atomic_bool is_cancelled; /* read by the engine's progress callback */

  pthread_mutex_t mutex; /* guards what follows, and the jobs */
  bool is_stopping;
  uint64_t last_id;
  job *first; /* the list of all jobs; of those that ended the last is first */
  job_lane lanes[SKVD_JOB_KINDS];
};

/* ---- Running a job ------------------------------------------------------- */

static int jobs_progress(void *arg, double done) {
  job *j = arg;
  j->permille = done < 0 ? 0 : done > 1 ? 1000 : (int)(done * 1000);
  return j->jobs->is_cancelled;
}

/* The lane's next job; NULL when it is time to end. */
static job *jobs_take(job_lane *lane) {
  skvd_jobs *jobs = lane->jobs;
  pthread_mutex_lock(&jobs->mutex);
  while (lane->queued == NULL && !jobs->is_stopping) {
    pthread_cond_wait(&lane->wake, &jobs->mutex);
  }
  lane->running = jobs->is_stopping ? NULL : lane->queued;
  if (lane->running != NULL) {
    lane->running->state = JOB_RUNNING;
    lane->queued = NULL;
  }
  pthread_mutex_unlock(&jobs->mutex);
  return lane->running;
}

static void jobs_free_one(job *j) {
  json_decref(j->result);
  free(j);
}

/* A job ended: it goes to the front, however long ago it began, and the ended
 * ones beyond those that are kept are forgotten. Under the mutex. */
static void jobs_keep(skvd_jobs *jobs, job *last) {
  unsigned ended = 0;
  job **link = &jobs->first;
  while (*link != last) link = &(*link)->next;
  *link = last->next;
  last->next = jobs->first;
  jobs->first = last;
  link = &jobs->first;
  while (*link != NULL) {
    job *j = *link;
    if (j->state >= JOB_DONE && ++ended > SKVD_JOBS_KEPT) {
      *link = j->next;
      jobs_free_one(j);
    } else {
      link = &j->next;
    }
  }
}

/* Tell everybody in the list. */
static void jobs_tell(skvd_waiter *waiter, int code,
                      const stratakv_error *error) {
  while (waiter != NULL) {
    skvd_waiter *next = waiter->next; /* done may free the waiter */
    waiter->is_finished = true;
    waiter->code = code;
    waiter->error = *error;
    waiter->done(waiter->arg);
    waiter = next;
  }
}

/* The job ended; takes the reference to the result. */
static void jobs_finish(job_lane *lane, job *j, int code,
                        const stratakv_error *error, json_t *result) {
  skvd_waiter *waiters;
  pthread_mutex_lock(&lane->jobs->mutex);
  waiters = j->waiters;
  j->waiters = NULL;
  j->code = code;
  j->error = *error;
  j->result = result;
  j->state = code == STRATAKV_OK ? JOB_DONE : JOB_FAILED;
  if (code == STRATAKV_OK) j->permille = 1000;
  lane->running = NULL;
  jobs_keep(lane->jobs, j);
  pthread_mutex_unlock(&lane->jobs->mutex);
  jobs_tell(waiters, code, error);
}

static void jobs_run(job_lane *lane, job *j) {
  skvd_jobs *jobs = lane->jobs;
  stratakv_error error = {0, ""};
  skvd_job_work work = {.kind = j->kind,
                        .store = jobs->store,
                        .base = jobs->base,
                        .name = j->name,
                        .progress = jobs_progress,
                        .arg = j};
  json_t *result;
  int rc = skvd_job_do(&work, &error, &result);
  if (rc != STRATAKV_OK && !jobs->is_cancelled) {
    skvd_log_event("error", "%s: %s", skvd_job_kind_name(j->kind),
                   error.message);
  }
  jobs_finish(lane, j, rc, &error, result);
}

static void *jobs_main(void *arg) {
  static const stratakv_error stopping = {STRATAKV_INTERRUPT,
                                          "the daemon is stopping"};
  job_lane *lane = arg;
  job *j;
  while ((j = jobs_take(lane)) != NULL) jobs_run(lane, j);
  /* Stopping: nothing is queued any more. */
  if (lane->queued != NULL) {
    jobs_finish(lane, lane->queued, STRATAKV_INTERRUPT, &stopping, NULL);
    lane->queued = NULL;
  }
  return NULL;
}

/* ---- Beginning one ------------------------------------------------------- */

/* The job that a request is about: there is one already, or a new one. Under
 * the mutex. */
static skvd_problem jobs_choose(skvd_jobs *jobs, skvd_job_kind kind,
                                skvd_job_how how, const char *name, job **out) {
  job_lane *lane = &jobs->lanes[kind];
  job *j = lane->queued;
  if (j == NULL && how != SKVD_JOB_AFTER) j = lane->running;
  *out = j;
  if (jobs->is_stopping) return SKVD_STOPPING;
  if (j != NULL) {
    return how == SKVD_JOB_ALONE ? SKVD_JOB_RUNNING : SKVD_NO_PROBLEM;
  }
  j = calloc(1, sizeof *j);
  if (j == NULL) return SKVD_OVERLOADED;
  j->jobs = jobs;
  j->id = ++jobs->last_id;
  j->kind = kind;
  if (name != NULL) strncpy(j->name, name, sizeof j->name - 1);
  j->next = jobs->first;
  jobs->first = j;
  lane->queued = j;
  pthread_cond_signal(&lane->wake);
  *out = j;
  return SKVD_NO_PROBLEM;
}

skvd_problem skvd_jobs_begin(skvd_jobs *jobs, skvd_job_kind kind,
                             skvd_job_how how, const char *name,
                             skvd_waiter *waiter, uint64_t *id) {
  skvd_problem problem;
  job *j;
  pthread_mutex_lock(&jobs->mutex);
  problem = jobs_choose(jobs, kind, how, name, &j);
  *id = j != NULL ? j->id : 0;
  if (problem == SKVD_NO_PROBLEM && waiter != NULL) {
    waiter->job = j->id;
    waiter->deadline = skvd_now_ms() + JOBS_WAIT_MS;
    waiter->next = j->waiters;
    j->waiters = waiter;
  }
  pthread_mutex_unlock(&jobs->mutex);
  return problem;
}

/* ---- Asking -------------------------------------------------------------- */

/* A message that is not UTF-8 is left out. */
static json_t *jobs_error(const job *j) {
  return json_pack("{s:s,s:o*}", "code",
                   skvd_problem_code(skvd_problem_of_store(j->code)), "detail",
                   json_string(j->error.message));
}

static json_t *jobs_document(const job *j) {
  static const char *const names[] = {"running", "running", "done", "failed"};
  json_t *result =
      j->result != NULL ? json_deep_copy(j->result) : json_object();
  json_t *json =
      json_pack("{s:I,s:s,s:s,s:f,s:o}", "job", (json_int_t)j->id, "kind",
                skvd_job_kind_name(j->kind), "state", names[j->state],
                "progress", j->permille / 1000.0, "result", result);
  if (json != NULL && j->state == JOB_FAILED &&
      json_object_set_new(json, "error", jobs_error(j)) != 0) {
    json_decref(json);
    return NULL;
  }
  return json;
}

skvd_problem skvd_jobs_describe(skvd_jobs *jobs, uint64_t id, json_t **out) {
  skvd_problem problem = SKVD_JOB_NOT_FOUND;
  job *j;
  *out = NULL;
  pthread_mutex_lock(&jobs->mutex);
  for (j = jobs->first; j != NULL && j->id != id; j = j->next) {
  }
  if (j != NULL) {
    *out = jobs_document(j);
    problem = *out != NULL ? SKVD_NO_PROBLEM : SKVD_OVERLOADED;
  }
  pthread_mutex_unlock(&jobs->mutex);
  return problem;
}

/* Move the waiters of a job whose time is over to another list. */
static void jobs_take_late(job *j, int64_t now_ms, skvd_waiter **over) {
  skvd_waiter **link = &j->waiters;
  while (*link != NULL) {
    skvd_waiter *waiter = *link;
    if (waiter->deadline > now_ms) {
      link = &waiter->next;
    } else {
      *link = waiter->next;
      waiter->next = *over;
      *over = waiter;
    }
  }
}

void skvd_jobs_tick(skvd_jobs *jobs, int64_t now_ms) {
  skvd_waiter *over = NULL;
  pthread_mutex_lock(&jobs->mutex);
  for (job *j = jobs->first; j != NULL; j = j->next) {
    jobs_take_late(j, now_ms, &over);
  }
  pthread_mutex_unlock(&jobs->mutex);
  while (over != NULL) {
    skvd_waiter *next = over->next;
    over->done(over->arg);
    over = next;
  }
}

/* ---- Start and stop ------------------------------------------------------ */

skvd_jobs *skvd_jobs_start(stratakv_store *store, const char *base) {
  skvd_jobs *jobs = calloc(1, sizeof *jobs);
  if (jobs == NULL) return NULL;
  jobs->store = store;
  jobs->base = base;
  pthread_mutex_init(&jobs->mutex, NULL);
  for (int kind = 0; kind < SKVD_JOB_KINDS; kind++) {
    job_lane *lane = &jobs->lanes[kind];
    lane->jobs = jobs;
    lane->kind = (skvd_job_kind)kind;
    pthread_cond_init(&lane->wake, NULL);
  }
  for (int kind = 0; kind < SKVD_JOB_KINDS; kind++) {
    job_lane *lane = &jobs->lanes[kind];
    lane->is_started =
        pthread_create(&lane->thread, NULL, jobs_main, lane) == 0;
    if (!lane->is_started) {
      skvd_jobs_stop(jobs);
      skvd_jobs_free(jobs);
      return NULL;
    }
  }
  return jobs;
}

void skvd_jobs_stop(skvd_jobs *jobs) {
  jobs->is_cancelled = true;
  pthread_mutex_lock(&jobs->mutex);
  jobs->is_stopping = true;
  for (int kind = 0; kind < SKVD_JOB_KINDS; kind++) {
    pthread_cond_signal(&jobs->lanes[kind].wake);
  }
  pthread_mutex_unlock(&jobs->mutex);
  for (int kind = 0; kind < SKVD_JOB_KINDS; kind++) {
    job_lane *lane = &jobs->lanes[kind];
    if (lane->is_started) pthread_join(lane->thread, NULL);
  }
}

void skvd_jobs_free(skvd_jobs *jobs) {
  if (jobs == NULL) return;
  while (jobs->first != NULL) {
    job *j = jobs->first;
    jobs->first = j->next;
    jobs_free_one(j);
  }
  for (int kind = 0; kind < SKVD_JOB_KINDS; kind++) {
    pthread_cond_destroy(&jobs->lanes[kind].wake);
  }
  pthread_mutex_destroy(&jobs->mutex);
  free(jobs);
}
