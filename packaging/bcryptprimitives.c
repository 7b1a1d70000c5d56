/* Wine before version 9 lacks this library of Windows 8 and later, from which Rust's standard library takes random bytes. The
   test puts it into Wine's prefix; no program that is handed out needs it. */
#include <stddef.h>

__declspec(dllimport) unsigned char __stdcall SystemFunction036(void *buffer, unsigned long length);

__declspec(dllexport) int __stdcall ProcessPrng(unsigned char *buffer, size_t length) {
  return SystemFunction036(buffer, (unsigned long)length);
}
