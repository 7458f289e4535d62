/* SPDX-License-Identifier: Apache-2.0 */
/* interrupt.h: ctrl-C and SIGTERM as a flag that long operations poll between tiles.
 *
 * The first signal sets the flag: the operation returns LB_E_INTERRUPTED, leaves its journal and
 * its partial output for --resume, and the program ends with 130. A second one ends the process at
 * once. A file that hits its size limit (SIGXFSZ) fails its write instead of ending the process. */
#ifndef LB_BASE_INTERRUPT_H
#define LB_BASE_INTERRUPT_H

#include "base/base.h"

void lb_interrupt_install(void);           /* once, before threads start */
bool lb_interrupted(void);                 /* cheap: one relaxed load; any thread */
bool lb_interrupt_stop(void *unused);      /* the same, for what asks a function with an argument */
lb_status lb_interrupt_check(lb_err *err); /* LB_E_INTERRUPTED once the flag is set */
void lb_interrupt_set(void);               /* as a signal would */
/* What was interrupted is done with, and something else begins. Where the second signal should not
 * end the process it is caught otherwise (tty.h). */
void lb_interrupt_clear(void);

#endif
