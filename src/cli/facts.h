/* SPDX-License-Identifier: Apache-2.0 */
/* facts.h: small tables about the program itself that help, the man page and `lbrx info` print:
 * exit codes and the environment variables that are honoured. */
#ifndef LB_CLI_FACTS_H
#define LB_CLI_FACTS_H

#include "base/base.h"

typedef struct lb_exit_fact {
    int code;
    const char *text;
} lb_exit_fact;

typedef struct lb_env_fact {
    const char *name;
    const char *text;
    bool secret; /* the value is never printed */
} lb_env_fact;

u32 lb_exit_count(void);
const lb_exit_fact *lb_exit_get(u32 i);
u32 lb_env_count(void);
const lb_env_fact *lb_env_get(u32 i);

#endif
