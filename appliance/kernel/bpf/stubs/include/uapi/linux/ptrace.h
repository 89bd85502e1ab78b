/* empty: nothing of it is used */
#pragma once
