package holder

import (
	"fmt"
	"net"
	"os"
)

// notify tells the service manager, if there is one that waits for it (sd_notify(3)): READY=1, STOPPING=1.
func notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET") // a path, or @ and an abstract name
	if path == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}
