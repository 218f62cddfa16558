/* HDF5 filters that misbehave when they decode a chunk that says so: filter 32760, whose one option says how. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CRASH = 1, HANG = 2, EAT = 3, SLOW = 4 };

static size_t filter(unsigned flags, size_t count, const unsigned options[], size_t nbytes, size_t *size, void **data)
{
    const unsigned char *bytes = *data;
    if ((flags & 0x100) && nbytes && bytes[0] == 0xEE) {
        if (count && options[0] == CRASH)
            raise(SIGSEGV);
        if (count && options[0] == HANG)
            for (;;)
                pause();
        if (count && options[0] == SLOW)
            usleep(400000);
        if (count && options[0] == EAT)
            for (;;) {
                void *more = malloc(64 << 20);
                if (!more)
                    return 0;
                memset(more, 1, 64 << 20);
            }
    }
    (void)size;
    return nbytes;
}

static const struct {
    int version;
    int id;
    unsigned encoder, decoder;
    const char *name;
    void *can_apply, *set_local;
    size_t (*filter)(unsigned, size_t, const unsigned[], size_t, size_t *, void **);
} misbehaving = {1, 32760, 1, 1, "misbehaving", 0, 0, filter};

int H5PLget_plugin_type(void) { return 0; }
const void *H5PLget_plugin_info(void) { return &misbehaving; }
