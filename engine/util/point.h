/*
 * Points: named places between two steps of an operation, where tests stop,
 * kill or schedule the one who passes. Nothing in release builds.
 *
 * NAMES  "module.what_just_happened", "commit.appended". A name stands in one
 *   place of the source. It is passed when the step before it failed, too, if
 *   the code goes the same way then.
 */
#ifndef SKV_UTIL_POINT_H
#define SKV_UTIL_POINT_H

/* Called at every point by whoever passes it, perhaps with locks held; it may
 * block or kill the process, and calls nothing of the engine. */
typedef void (*skv_point_hook)(void *arg, const char *name);

#ifdef SKV_TEST

#define SKV_POINT(name) skv_point(name)

/* NULL removes the hook. Set it while nobody passes a point. */
void skv_point_set(skv_point_hook hook, void *arg);

/* Without a hook, SKV_TEST_POINT="name:n" in the environment kills the process
 * with SIGKILL when it passes that point for the n-th time. */
void skv_point(const char *name);

/* From here to the end of the block this thread is at that operation, within
 * those that it began before. */
#define SKV_OPERATION(name)                                                    \
  const char *skv_operation_before                                             \
      __attribute__((cleanup(skv_operation_end), unused)) =                    \
          skv_operation_begin(name)

/* What this thread is at, innermost; NULL: nothing that has a name. */
const char *skv_operation(void);

/* SKV_OPERATION's own: the one before is given back. */
const char *skv_operation_begin(const char *name);
void skv_operation_end(const char **before);

#else
#define SKV_POINT(name) ((void)0)
#define SKV_OPERATION(name) SKV_POINT(name)
#endif

#endif
