/*
 * An environment that fails where a test says; everything else goes to the
 * environment that it wraps.
 *
 * PURPOSE  One fault at a time: of the calls whose operation and file name
 *   match, the n-th fails, once or from then on. The calls are counted whether
 *   or not a fault is set, so a loop over n knows when it is past the end.
 *
 * NOT HERE  Loss of unsynced bytes, which needs a record of them; files of a
 *   wrapped real environment are not closed in a forked child (fork.c).
 */
#ifndef SKV_OS_ENV_FAULT_H
#define SKV_OS_ENV_FAULT_H

#include "engine/os/env.h"

/*
 * A fault. The operation is the name of the function in skv_env, "file_write";
 * the file is the component that was opened ("000001.wal"); for dir_open the
 * path; for dir_rename either name; for other dir_ functions without a name
 * ".", for random "". Both are matched as the shell matches file names (*, ?,
 * []), NULL is "*".
 */
typedef struct skv_fault {
  const char *operation;
  const char *file;
  uint64_t nth;    /* which matching call fails, from 1; 0: none */
  bool is_forever; /* the ones after it as well */
  int code;        /* STRATAKV_*; 0: IOERR, for a sync IOERR_FSYNC */
  bool is_partial; /* a failing file_write has written its first half */
  bool is_lying;   /* syncs that match after the failed one report success
                      without being done, as Linux does */
} skv_fault;

/* Wrap `inner`, which must live longer; NULL without memory. */
skv_env *skv_env_fault_new(skv_env *inner);
void skv_env_fault_free(skv_env *fault_env);

/*
 * The environment that the process was asked for from outside, for tests of
 * whole programs: `inner`, or if SKV_TEST_FAULT is in the process's environment
 * one failing env around it, made at the first call. Its words are
 *
 *   operation file nth once|forever|lying|partial code
 *
 * "file_sync *.wal 1 once 1034". Calls are counted, and fail, only while the
 * file exists that SKV_TEST_FAULT_WHILE names, if it names one; each time that
 * it comes into being counting begins anew.
 */
skv_env *skv_env_fault_asked(skv_env *inner);

/* Set the fault (copied; its texts must stay) and begin to count at 0; NULL
 * sets one that matches every call and never fails. */
void skv_env_fault_set(skv_env *fault_env, const skv_fault *fault);
/* Called for each matching call, before it is made or fails: which file, if it
 * is one (the wrapped environment's), and whether it fails. It must not call
 * this environment. NULL: nobody. */
typedef void (*skv_fault_seen)(void *arg, const char *operation,
                               skv_file *inner, bool fires);
void skv_env_fault_watch(skv_env *fault_env, skv_fault_seen seen, void *arg);
/* Calls that matched since. */
uint64_t skv_env_fault_calls(skv_env *fault_env);
/* Calls that were made to fail since. */
uint64_t skv_env_fault_fired(skv_env *fault_env);

#endif
