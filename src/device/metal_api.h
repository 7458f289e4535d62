/* SPDX-License-Identifier: Apache-2.0 */
/* metal_api.h: Metal through the Objective-C runtime's own functions, found at run time: no
 * framework is linked, no header of Apple's is needed. On other systems than macOS there is none,
 * but for the stand-in that tests name in LBRX_TEST_METAL. */
#ifndef LB_DEVICE_METAL_API_H
#define LB_DEVICE_METAL_API_H

#include "base/base.h"

typedef struct lb_mtl_size {
    unsigned long width, height, depth;
} lb_mtl_size;
typedef struct lb_mtl_range {
    unsigned long at, bytes;
} lb_mtl_range;

#define LB_MESSAGE(result, name, selector, parameters) typedef result lb_mtl_##name parameters;
#include "device/metal_api.def"
#undef LB_MESSAGE

/* Values of Apple's enumerations. */
enum {
    LB_MTL_SHARED_UNTRACKED = 1 << 8, /* MTLResourceOptions: shared storage, order is ours */
    LB_MTL_CONCURRENT = 1,            /* MTLDispatchType */
    LB_MTL_SCOPE_BUFFERS = 1,         /* MTLBarrierScope */
    LB_MTL_MATH_SAFE = 0,             /* MTLMathMode */
    LB_MTL_LANGUAGE_3_0 = 3 << 16,    /* MTLLanguageVersion: macOS 13 */
    LB_MTL_STATUS_COMPLETED = 4,      /* MTLCommandBufferStatus */
    LB_MTL_ERROR_OUT_OF_MEMORY = 8,   /* MTLCommandBufferError */
    LB_MTL_FAMILY_APPLE = 1000,       /* MTLGPUFamily: + n is AppleN */
    LB_MTL_FAMILY_METAL3 = 5001,
    LB_MTL_FAMILY_METAL4 = 5002,
};

typedef struct lb_metal_api {
    void *metal, *objc; /* the libraries */
    void *(*objc_getClass)(const char *name);
    void *(*sel_registerName)(const char *name);
    void (*objc_msgSend)(void); /* called as what the message's types say */
    void *(*objc_autoreleasePoolPush)(void);
    void (*objc_autoreleasePoolPop)(void *pool);
    void *(*MTLCreateSystemDefaultDevice)(void);
    void *(*MTLCopyAllDevices)(void); /* NULL: there is none */
#define LB_MESSAGE(result, name, selector, parameters) void *sel_##name;
#include "device/metal_api.def"
#undef LB_MESSAGE
} lb_metal_api;

/* A message without, and one with arguments: LB_SEND0(api, name, object). */
#define LB_SEND0(api, name, object) \
    (((lb_mtl_##name *)(api)->objc_msgSend)((object), (api)->sel_##name))
#define LB_SEND(api, name, object, ...) \
    (((lb_mtl_##name *)(api)->objc_msgSend)((object), (api)->sel_##name, __VA_ARGS__))

/* LB_E_NOT_FOUND: not on this system. Close it also after an error. */
lb_status lb_metal_api_open(lb_metal_api *a, lb_err *err);
void lb_metal_api_close(lb_metal_api *a);
/* NULL is fine. */
void lb_metal_release(const lb_metal_api *a, void *object);
/* Copies an NSString's text, cut to the room; "unknown" of nil. */
void lb_metal_text(const lb_metal_api *a, void *string, char *out, size_t room);
/* What an NSError says; of a compiler's log the first error. One line. */
void lb_metal_error(const lb_metal_api *a, void *error, char *out, size_t room);

/* metal_msl.c: all kernels as Metal Shading Language. */
extern const char lb_metal_msl[];

#endif
