/* SPDX-License-Identifier: Apache-2.0 */
/* metal_api.c: Metal and the Objective-C runtime by dlopen.
 *
 * A program without windows gets no default device unless CoreGraphics is loaded. */
#include "device/metal_api.h"
#include "base/os.h"
#include <dlfcn.h>
#include <stdio.h>

#if defined(__APPLE__)
#define METAL_PATH "/System/Library/Frameworks/Metal.framework/Metal"
#define GRAPHICS_PATH "/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics"
#define OBJC_PATH "/usr/lib/libobjc.A.dylib"
#endif

static lb_status open_libraries(lb_metal_api *a, lb_err *err) {
    const char *stand_in = lb_os_env("LBRX_TEST_METAL");
    const char *path = stand_in;
    if (stand_in && *stand_in) {
        a->metal = dlopen(stand_in, RTLD_NOW | RTLD_LOCAL);
        a->objc = dlopen(stand_in, RTLD_NOW | RTLD_LOCAL);
    } else {
#if defined(__APPLE__)
        (void)dlopen(GRAPHICS_PATH, RTLD_NOW | RTLD_LOCAL);
        path = METAL_PATH;
        a->metal = dlopen(METAL_PATH, RTLD_NOW | RTLD_LOCAL);
        a->objc = dlopen(OBJC_PATH, RTLD_NOW | RTLD_LOCAL);
#else
        return lb_fail(err, LB_E_NOT_FOUND,
                       "metal: this system has none: Metal is a part of macOS");
#endif
    }
    if (!a->metal || !a->objc)
        return lb_fail(err, LB_E_NOT_FOUND, "metal: %s cannot be opened", path);
    return LB_OK;
}

/* Copies the address; dlsym gives no function. */
static bool find(void *library, const char *name, void *out) {
    void *at = dlsym(library, name);
    memcpy(out, &at, sizeof at);
    return at != NULL;
}

lb_status lb_metal_api_open(lb_metal_api *a, lb_err *err) {
    const char *missing = NULL;
    *a = (lb_metal_api){0};
    LB_TRY(open_libraries(a, err));
#define FIND(library, name)              \
    if (!find(library, #name, &a->name)) \
    missing = #name
    FIND(a->objc, objc_getClass);
    FIND(a->objc, sel_registerName);
    FIND(a->objc, objc_msgSend);
    FIND(a->objc, objc_autoreleasePoolPush);
    FIND(a->objc, objc_autoreleasePoolPop);
    FIND(a->metal, MTLCreateSystemDefaultDevice);
#undef FIND
    (void)find(a->metal, "MTLCopyAllDevices", &a->MTLCopyAllDevices);
    if (missing)
        return lb_fail(err, LB_E_UNSUPPORTED, "metal: the system's library has no %s", missing);
#define LB_MESSAGE(result, name, selector, parameters) \
    a->sel_##name = a->sel_registerName(selector);
#include "device/metal_api.def"
#undef LB_MESSAGE
    return LB_OK;
}

void lb_metal_api_close(lb_metal_api *a) {
    if (a->metal)
        (void)dlclose(a->metal);
    if (a->objc)
        (void)dlclose(a->objc);
    a->metal = a->objc = NULL;
}

void lb_metal_release(const lb_metal_api *a, void *object) {
    if (object)
        LB_SEND0(a, release, object);
}

void lb_metal_text(const lb_metal_api *a, void *string, char *out, size_t room) {
    const char *text = string ? LB_SEND0(a, utf8, string) : NULL;
    (void)snprintf(out, room, "%s", text ? text : "unknown");
}

void lb_metal_error(const lb_metal_api *a, void *error, char *out, size_t room) {
    void *description = error ? LB_SEND0(a, description, error) : NULL;
    const char *text = description ? LB_SEND0(a, utf8, description) : NULL;
    if (!text || !*text) {
        (void)snprintf(out, room, "unknown error");
        return;
    }
    const char *line = text;
    const char *found = strstr(text, "error:");
    for (const char *p = text; found && p < found; p++)
        line = *p == '\n' ? p + 1 : line;
    (void)snprintf(out, room, "%.*s", (int)LB_MIN(strcspn(line, "\n"), room), line);
}
