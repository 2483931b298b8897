#ifndef OB_CRC32_H
#define OB_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* The CRC-32 of zlib, PNG and Ethernet: of "123456789" it is 0xCBF43926. */
uint32_t ob_crc32(const uint8_t *data, size_t bytes);

#endif
