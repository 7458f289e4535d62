/* SPDX-License-Identifier: Apache-2.0 */
/* devices.h: the devices of the machine, for `lbrx info`, and the one that --device names. */
#ifndef LB_CLI_DEVICES_H
#define LB_CLI_DEVICES_H

#include "cli/cli.h"
#include "device/device.h"

/* Lines of `lbrx info`; why a kind of device has none. */
void lb_devices_put(lb_buf *out);
/* "devices": their names, "device_facts": all about them, "devices_absent": why there are none. */
void lb_devices_json(lb_cli *cli, lb_json *root);
/* Of "auto": the first GPU, else the CPU. */
lb_dev_choice lb_devices_choose(lb_dev_choice c);

#endif
