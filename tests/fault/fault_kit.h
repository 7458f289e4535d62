/* SPDX-License-Identifier: Apache-2.0 */
/* fault_kit.h: outputs of every shape, written by child processes that may be killed; what is left
 * of them, compared with what an undisturbed one has written.
 *
 * A scene has a folder of its own below lb_test_dir(): the output and whatever stands beside it. */
#ifndef LB_TESTS_FAULT_KIT_H
#define LB_TESTS_FAULT_KIT_H

#include "plan_kit.h"
#include "seam.h"

typedef struct fk_scene {
    const char *name;
    bool folder, spread;
    bool force; /* an older output of this kind stands there, and is replaced */
    bool sha256;
    bool no_exchange;
    u32 threads;
    bool (*stop)(void *); /* of run and sink; may be NULL */
    const char *options;  /* part of the plan's identity; NULL: the usual ones */
    bool no_sync;
    u32 uid; /* the child's user; 0: as it is */
} fk_scene;

extern const fk_scene fk_scenes[];
extern const u32 fk_n_scenes;

/* How a child came to its end. */
typedef struct fk_end {
    bool killed;
    lb_status status;
    u64 seam_count;
    u64 kept_jobs, kept_parts;
    char msg[600];
} fk_end;

bool fk_sources(void); /* makes the input files; once */
/* The scene's folder `dir` below the test's, fresh: with an older output if the scene has one. */
bool fk_reset(const fk_scene *s, const char *dir);
/* One run of it in a child process, with this seam (may be NULL). */
fk_end fk_run(const fk_scene *s, const char *dir, bool resume, const seam *sm);
/* The same names and bytes below both? */
bool fk_same(const char *dir_a, const char *dir_b);
/* After an interruption: under the final names nothing but the whole old or the whole new output.
 */
bool fk_nothing_half(const fk_scene *s, const char *dir, const char *want, const char *old);
const char *fk_path(const char *dir, const char *name); /* a ring of buffers */
const char *fk_output(const fk_scene *s, const char *dir);
/* "partial" and so on: the output's path with this end. */
const char *fk_beside(const fk_scene *s, const char *dir, const char *end);

#endif
